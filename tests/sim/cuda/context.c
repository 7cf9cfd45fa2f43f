/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

#include <stdlib.h>
#include <string.h>

#include "queue.h"
#include "stream.h"

/*
 * A context handle is the address of a slot, so that any value a program may pass is
 * checked without a lock and without reading through it. Slots and contexts are never
 * freed; a slot is used again only after all the others were.
 */
#define SLOTS 16384
static _Atomic(struct context *) slots[SLOTS];
static size_t next_slot;
static uint64_t next_id = 1;

pthread_mutex_t contexts_lock = PTHREAD_MUTEX_INITIALIZER;

/* What this process' contexts on one device share: the first one pays for it. */
static struct share {
	unsigned int contexts;
	struct rm_phys memory;
} shares[RM_DEVICES_MAX];

/* ---- the calling thread's stack ------------------------------------------------------ */

struct entry {
	CUcontext handle;
	uint64_t id; /* 0 for a primary context, whose handle outlives its ids */
};
static __thread struct entry *stack;
static __thread size_t depth, room;
static pthread_key_t stack_key;

__attribute__((constructor)) static void make_stack_key(void)
{
	/* The key's only use is to free the stack of a thread that ends. */
	pthread_key_create(&stack_key, free);
}

struct context *context_of(CUcontext handle)
{
	uintptr_t offset = (uintptr_t)handle - (uintptr_t)slots;
	struct context *ctx;

	if (offset >= sizeof(slots) || offset % sizeof(slots[0]) != 0)
		return NULL;
	ctx = atomic_load_explicit(&slots[offset / sizeof(slots[0])], memory_order_acquire);
	return ctx && atomic_load_explicit(&ctx->alive, memory_order_acquire) ? ctx : NULL;
}

/* Whether HANDLE was a context once. */
static bool is_slot_used(CUcontext handle)
{
	uintptr_t offset = (uintptr_t)handle - (uintptr_t)slots;

	return offset < sizeof(slots) && offset % sizeof(slots[0]) == 0 &&
	       atomic_load(&slots[offset / sizeof(slots[0])]) != NULL;
}

CUresult context_push(CUcontext handle)
{
	struct context *ctx = context_of(handle);

	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (depth == room) {
		size_t more = room ? room * 2 : 8;
		struct entry *grown = realloc(stack, more * sizeof(*stack));

		if (!grown)
			return CUDA_ERROR_OUT_OF_MEMORY;
		stack = grown;
		room = more;
		pthread_setspecific(stack_key, stack);
	}
	stack[depth++] = (struct entry){ handle, ctx->base.primary ? 0 : ctx->base.id };
	return CUDA_SUCCESS;
}

CUresult sim_ctx_current(struct sim_ctx **out)
{
	const struct entry *top;
	struct context *ctx;

	if (depth == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	top = &stack[depth - 1];
	ctx = context_of(top->handle);
	if (!ctx || (top->id && top->id != ctx->base.id))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	*out = &ctx->base;
	return CUDA_SUCCESS;
}

CUresult sim_ctx_of(CUcontext handle, struct sim_ctx **out)
{
	struct context *ctx;

	if (!handle)
		return sim_ctx_current(out);
	ctx = context_of(handle);
	if (!ctx)
		return is_slot_used(handle) ? CUDA_ERROR_CONTEXT_IS_DESTROYED
					    : CUDA_ERROR_INVALID_CONTEXT;
	*out = &ctx->base;
	return CUDA_SUCCESS;
}

CUcontext sim_ctx_handle(struct sim_ctx *ctx)
{
	return ((struct context *)ctx)->handle;
}

/* ---- life ---------------------------------------------------------------------------- */

/* What every context after a process' first one takes on a device. */
static uint64_t further_bytes(const struct rm_device *facts)
{
	uint64_t bytes = facts->context_bytes / 8 / RM_BLOCK_BYTES * RM_BLOCK_BYTES;

	return bytes > RM_BLOCK_BYTES ? bytes : RM_BLOCK_BYTES;
}

/* Under contexts_lock. */
static CUresult take_memory(struct context *ctx)
{
	struct share *share = &shares[ctx->base.machine];
	const struct rm_device *facts = sim_device_facts(ctx->base.machine);
	uint64_t further = further_bytes(facts);
	int r;

	if (share->contexts == 0 && facts->context_bytes > further) {
		r = rm_phys_alloc(&share->memory, ctx->base.machine,
				  facts->context_bytes - further, RM_CONTEXT);
		if (r < 0)
			return sim_result(r);
	}
	r = rm_phys_alloc(&ctx->memory, ctx->base.machine, further, RM_CONTEXT);
	if (r < 0) {
		if (share->contexts == 0 && share->memory.id) {
			rm_phys_unref(share->memory.id);
			share->memory.id = 0;
		}
		return sim_result(r);
	}
	share->contexts++;
	return CUDA_SUCCESS;
}

/* Under contexts_lock. */
static void give_memory(struct context *ctx)
{
	struct share *share = &shares[ctx->base.machine];

	limits_drop(ctx);
	rm_phys_unref(ctx->memory.id);
	ctx->memory.id = 0;
	if (--share->contexts == 0 && share->memory.id) {
		rm_phys_unref(share->memory.id);
		share->memory.id = 0;
	}
}

/* A slot that was never used, or the next one whose context is dead. Under contexts_lock.
 */
static _Atomic(struct context *) *find_slot(void)
{
	for (size_t i = 0; i < SLOTS; i++) {
		size_t at = (next_slot + i) % SLOTS;
		struct context *ctx = atomic_load(&slots[at]);

		if (!ctx || (!atomic_load(&ctx->alive) && !ctx->base.primary)) {
			next_slot = at + 1;
			return &slots[at];
		}
	}
	return NULL;
}

CUresult context_revive(struct context *ctx)
{
	CUresult r;

	limits_reset(ctx);
	memset(ctx->peers, 0, sizeof(ctx->peers));
	ctx->cache = CU_FUNC_CACHE_PREFER_NONE;
	ctx->shared = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
	/* A green context is a view of its device's primary one, which has paid. */
	r = ctx->base.green ? CUDA_SUCCESS : take_memory(ctx);
	if (r != CUDA_SUCCESS)
		return r;
	ctx->base.id = next_id++;
	ctx->closing = false;
	atomic_store_explicit(&ctx->alive, true, memory_order_release);
	return CUDA_SUCCESS;
}

CUresult context_new(CUdevice dev, unsigned int flags, enum context_kind kind,
		     struct context **out)
{
	_Atomic(struct context *) *slot;
	struct context *ctx;
	uint32_t machine;
	CUresult r = sim_device_machine(dev, &machine);

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&contexts_lock);
	slot = find_slot();
	ctx = slot ? atomic_load(slot) : NULL;
	if (slot && !ctx)
		ctx = calloc(1, sizeof(*ctx));
	if (!ctx) {
		pthread_mutex_unlock(&contexts_lock);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*ctx = (struct context){
		.base = { .dev = dev,
			  .machine = machine,
			  .primary = kind == CONTEXT_PRIMARY,
			  .green = kind == CONTEXT_GREEN,
			  .priv = ctx },
		.handle = (CUcontext)(uintptr_t)slot,
		.uses = 1,
		.flags = flags,
		.api_version = 3020,
	};
	if (kind != CONTEXT_PRIMARY)
		r = context_revive(ctx);
	atomic_store_explicit(slot, ctx, memory_order_release);
	pthread_mutex_unlock(&contexts_lock);
	*out = ctx;
	return r;
}

static void end_contents(struct context *ctx)
{
	sim_module_ctx_gone(&ctx->base);
	sim_array_ctx_gone(&ctx->base);
	sim_mem_ctx_gone(&ctx->base);
}

/* What was allocated with a green context current is the primary one's and goes with it. */
static void end_green_contents(const struct context *primary)
{
	for (size_t i = 0; i < SLOTS; i++) {
		struct context *ctx = atomic_load(&slots[i]);

		if (!ctx)
			break;
		if (ctx->base.green && ctx->base.dev == primary->base.dev)
			end_contents(ctx);
	}
}

void context_end(struct context *ctx)
{
	sim_stream_ctx_gone(&ctx->base);
	if (!ctx->base.green)
		end_contents(ctx);
	if (ctx->base.primary)
		end_green_contents(ctx);
	pthread_mutex_lock(&contexts_lock);
	atomic_store_explicit(&ctx->alive, false, memory_order_release);
	if (!ctx->base.green)
		give_memory(ctx);
	pthread_mutex_unlock(&contexts_lock);
}

static bool are_flags_valid(unsigned int flags)
{
	unsigned int sched = flags & CU_CTX_SCHED_MASK;

	return (flags & ~(unsigned int)CU_CTX_FLAGS_MASK) == 0 &&
	       (sched == CU_CTX_SCHED_AUTO || sched == CU_CTX_SCHED_SPIN ||
		sched == CU_CTX_SCHED_YIELD || sched == CU_CTX_SCHED_BLOCKING_SYNC);
}

static CUresult create(CUcontext *out, unsigned int flags, CUdevice dev,
		       unsigned int version)
{
	struct context *ctx;
	uint32_t machine;
	CUresult r;

	if (!out || !are_flags_valid(flags))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_device_machine(dev, &machine);
	if (r == CUDA_SUCCESS)
		r = context_new(dev, flags, CONTEXT_OWN, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	ctx->api_version = version;
	r = context_push(ctx->handle);
	if (r != CUDA_SUCCESS) {
		context_end(ctx);
		return r;
	}
	*out = ctx->handle;
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	SIM_ENTER();
	return create(pctx, flags, dev, 3010);
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	SIM_ENTER();
	return create(pctx, flags, dev, 3020);
}

/* Affinity to a number of multiprocessors exists only under MPS. */
static CUresult check_affinity(const CUexecAffinityParam *params, int count)
{
	if (count < 0 || (count > 0) != (params != NULL))
		return CUDA_ERROR_INVALID_VALUE;
	return count > 0 ? CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY : CUDA_SUCCESS;
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams,
			unsigned int flags, CUdevice dev)
{
	CUresult r;

	SIM_ENTER();
	r = check_affinity(paramsArray, numParams);
	return r == CUDA_SUCCESS ? create(pctx, flags, dev, 3020) : r;
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams,
			unsigned int flags, CUdevice dev)
{
	CUresult r;

	SIM_ENTER();
	if (ctxCreateParams) {
		if (ctxCreateParams->cigParams)
			return CUDA_ERROR_NOT_SUPPORTED;
		r = check_affinity(ctxCreateParams->execAffinityParams,
				   ctxCreateParams->numExecAffinityParams);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return create(pctx, flags, dev, 3020);
}

static CUresult destroy(CUcontext handle)
{
	struct context *ctx;
	bool mine;

	if (!handle)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&contexts_lock);
	ctx = context_of(handle);
	mine = ctx && !ctx->closing && !ctx->base.primary && !ctx->base.green;
	if (mine)
		ctx->closing = true;
	pthread_mutex_unlock(&contexts_lock);
	if (!mine)
		return !ctx && is_slot_used(handle) ? CUDA_ERROR_CONTEXT_IS_DESTROYED
						    : CUDA_ERROR_INVALID_CONTEXT;
	context_end(ctx);
	if (depth > 0 && stack[depth - 1].handle == handle)
		depth--;
	return CUDA_SUCCESS;
}

CUresult cuCtxDestroy(CUcontext ctx)
{
	SIM_ENTER();
	return destroy(ctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	SIM_ENTER();
	return destroy(ctx);
}

CUresult cuCtxAttach(CUcontext *pctx, unsigned int flags)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	if (!pctx || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&contexts_lock);
	((struct context *)ctx)->uses++;
	pthread_mutex_unlock(&contexts_lock);
	*pctx = sim_ctx_handle(ctx);
	return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext ctx)
{
	struct context *found;
	bool last = false;

	SIM_ENTER();
	pthread_mutex_lock(&contexts_lock);
	found = context_of(ctx);
	if (found && !found->base.primary && !found->base.green)
		last = --found->uses == 0;
	else
		found = NULL;
	pthread_mutex_unlock(&contexts_lock);
	if (!found)
		return CUDA_ERROR_INVALID_CONTEXT;
	return last ? destroy(ctx) : CUDA_SUCCESS;
}

/* ---- push, pop, current -------------------------------------------------------------- */

CUresult cuCtxPushCurrent(CUcontext ctx)
{
	SIM_ENTER();
	return context_push(ctx);
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
	SIM_ENTER();
	return context_push(ctx);
}

static CUresult pop(CUcontext *out)
{
	if (depth == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	depth--;
	if (out)
		*out = stack[depth].handle;
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *pctx)
{
	SIM_ENTER();
	return pop(pctx);
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
	SIM_ENTER();
	return pop(pctx);
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	CUresult r;

	SIM_ENTER();
	if (!ctx) {
		if (depth > 0)
			depth--;
		return CUDA_SUCCESS;
	}
	if (!context_of(ctx))
		return is_slot_used(ctx) ? CUDA_ERROR_CONTEXT_IS_DESTROYED
					 : CUDA_ERROR_INVALID_CONTEXT;
	if (depth > 0)
		depth--;
	r = context_push(ctx);
	return r;
}

CUresult cuCtxGetCurrent(CUcontext *pctx)
{
	SIM_ENTER();
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	*pctx = depth > 0 ? stack[depth - 1].handle : NULL;
	return CUDA_SUCCESS;
}

static CUresult tell_device(CUdevice *device, CUcontext handle)
{
	struct sim_ctx *ctx;
	CUresult r = sim_ctx_of(handle, &ctx);

	if (r != CUDA_SUCCESS)
		return r;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = ctx->dev;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	SIM_ENTER();
	return tell_device(device, NULL);
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx)
{
	SIM_ENTER();
	return tell_device(device, ctx);
}

static CUresult wait_for_all(CUcontext handle)
{
	struct sim_ctx *ctx;
	CUresult r = sim_ctx_of(handle, &ctx);

	if (r == CUDA_SUCCESS)
		r = sim_capture_context(ctx);
	if (r == CUDA_SUCCESS)
		r = sim_capture_forbids();
	if (r == CUDA_SUCCESS)
		r = sim_queue_drain_context(ctx->id);
	if (r == CUDA_SUCCESS)
		sim_pool_sync(ctx->machine);
	return r;
}

CUresult cuCtxSynchronize(void)
{
	SIM_ENTER();
	return wait_for_all(NULL);
}

CUresult cuCtxSynchronize_v2(CUcontext ctx)
{
	SIM_ENTER();
	return wait_for_all(ctx);
}
