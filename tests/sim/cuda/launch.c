/* SPDX-License-Identifier: Apache-2.0 */
#include "launch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "graph.h"
#include "lane.h"
#include "module.h"
#include "stream_list.h"

/* Launches: checked as the driver checks them, counted, and given to the GPU, where they take
 * time and compute nothing. */

#define PARAM_BYTES_MAX 32764u

static _Atomic uint64_t launches;

uint64_t sim_launch_count(void)
{
	return atomic_load(&launches);
}

void sim_launch_counted(void)
{
	atomic_fetch_add_explicit(&launches, 1, memory_order_relaxed);
}

/* ---- arguments ----------------------------------------------------------------------- */

/* The packed form: CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE, _END. */
static CUresult read_extra(void **extra, const void **buffer, size_t *bytes)
{
	*buffer = NULL;
	*bytes = 0;
	for (size_t i = 0; i < 8; i += 2) {
		uintptr_t key = (uintptr_t)extra[i];
		if (key == (uintptr_t)CU_LAUNCH_PARAM_END_AS_INT)
			return CUDA_SUCCESS;
		if (key == CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT)
			*buffer = extra[i + 1];
		else if (key == CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT && extra[i + 1])
			memcpy(bytes, extra[i + 1], sizeof *bytes);
		else
			return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_ERROR_INVALID_VALUE;
}

static size_t param_bytes(const struct sim_image_function *d)
{
	const struct sim_param *last = d->param_count ? &d->params[d->param_count - 1]
						      : NULL;

	return last ? (size_t)last->offset + last->bytes : 0;
}

static CUresult check_arguments(const struct sim_image_function *d, void **params,
				void **extra)
{
	const void *buffer;
	size_t bytes;

	if (params && extra)
		return CUDA_ERROR_INVALID_VALUE;
	if (!extra)
		return d->param_count && !params ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	CUresult r = read_extra(extra, &buffer, &bytes);
	if (r != CUDA_SUCCESS)
		return r;
	if (bytes > PARAM_BYTES_MAX || (bytes && !buffer) ||
	    (d->params_known && bytes < param_bytes(d)))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static CUresult check_shape(const struct sim_function *f, const CUDA_KERNEL_NODE_PARAMS *p)
{
	struct sim_limits l;
	uint64_t threads = (uint64_t)p->blockDimX * p->blockDimY;

	if (!p->gridDimX || !p->gridDimY || !p->gridDimZ || !p->blockDimX ||
	    !p->blockDimY || !p->blockDimZ)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->gridDimX > INT32_MAX || p->gridDimY > 65535 || p->gridDimZ > 65535 ||
	    p->blockDimX > 1024 || p->blockDimY > 1024 || p->blockDimZ > 64)
		return CUDA_ERROR_INVALID_VALUE;
	threads *= p->blockDimZ;
	if (threads > 1024 || threads > f->decl->max_threads)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->sharedMemBytes > (unsigned)sim_dynamic_shared_max(f))
		return CUDA_ERROR_INVALID_VALUE;
	sim_limits_of(f->module->ctx, &l);
	uint64_t registers = (threads + 31) / 32 * 32 * f->decl->registers;
	return registers > l.registers_per_sm ? CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
					      : CUDA_SUCCESS;
}

static CUresult check(const CUDA_KERNEL_NODE_PARAMS *p, struct sim_function **f)
{
	CUfunction handle = p->func ? p->func : (CUfunction)p->kern;
	CUresult r = sim_function_of(handle, f);

	if (r == CUDA_SUCCESS)
		r = check_shape(*f, p);
	if (r == CUDA_SUCCESS)
		r = check_arguments((*f)->decl, p->kernelParams, p->extra);
	return r == CUDA_SUCCESS ? sim_function_load(*f) : r;
}

/* The first parameter's bytes as a number, as far as they go. */
static uint64_t first_argument(const struct sim_image_function *d,
			       const CUDA_KERNEL_NODE_PARAMS *p)
{
	const void *from = NULL;
	size_t bytes = 0;
	uint64_t value = 0;

	if (p->extra) {
		if (read_extra(p->extra, &from, &bytes) != CUDA_SUCCESS)
			return 0;
	} else if (p->kernelParams && d->param_count) {
		from = p->kernelParams[0];
		bytes = d->params[0].bytes;
	}
	if (from)
		memcpy(&value, from, bytes < sizeof value ? bytes : sizeof value);
	return value;
}

static void work_of(const struct sim_function *f, const CUDA_KERNEL_NODE_PARAMS *p,
		    struct rm_work *out)
{
	const struct sim_grid grid = {
		.blocks = (uint64_t)p->gridDimX * p->gridDimY * p->gridDimZ,
		.threads = p->blockDimX * p->blockDimY * p->blockDimZ,
		.dynamic_bytes = p->sharedMemBytes,
		.first = first_argument(f->decl, p),
	};

	sim_kernel_work(f, &grid, out);
}

static CUresult run_work(void *params, struct sim_ctx *ctx)
{
	return sim_lane_do(ctx->machine, params);
}

CUresult sim_launch_work(struct sim_stream *s, struct rm_work *work)
{
	const struct sim_op op = {
		.type = CU_GRAPH_NODE_TYPE_KERNEL,
		.run = run_work,
		.params = work,
		.params_bytes = sizeof *work,
	};

	sim_spend(SIM_SPEND_LAUNCH_NS - SIM_SPEND_CALL_NS);
	sim_launch_counted();
	return sim_stream_run(s, &op);
}

/* ---- kernels that run later ---------------------------------------------------------- */

/* The parameters with everything they point to: the graph's copy of a launch. */
struct kernel {
	CUDA_KERNEL_NODE_PARAMS p; /* first: what the node tells */
	void *arguments;
	size_t packed_bytes; /* of `extra` */
	void *extra[5];
};

static CUresult run_kernel(void *params, struct sim_ctx *ctx)
{
	const struct kernel *k = params;
	struct sim_function *f;
	struct rm_work work;

	/* The function may have gone with its module since. */
	CUresult r = sim_function_of(k->p.func ? k->p.func : (CUfunction)k->p.kern, &f);
	if (r != CUDA_SUCCESS)
		return r;
	sim_launch_counted();
	work_of(f, &k->p, &work);
	return sim_lane_do(ctx->machine, &work);
}

static void drop_kernel(void *params)
{
	free(((struct kernel *)params)->arguments);
}

/* One block: the pointers, then the values. */
static CUresult copy_params(struct kernel *k, const struct sim_image_function *d,
			    void **params)
{
	size_t pointers = d->param_count * sizeof(void *);

	if (!d->param_count) {
		k->p.kernelParams = NULL;
		return CUDA_SUCCESS;
	}
	char *block = calloc(1, pointers + param_bytes(d) + 1);
	if (!block)
		return CUDA_ERROR_OUT_OF_MEMORY;
	k->arguments = block;
	void **list = (void **)(void *)block;
	for (size_t i = 0; i < d->param_count; i++) {
		if (!params[i]) {
			free(block);
			return CUDA_ERROR_INVALID_VALUE;
		}
		list[i] = block + pointers + d->params[i].offset;
		memcpy(list[i], params[i], d->params[i].bytes);
	}
	k->p.kernelParams = list;
	return CUDA_SUCCESS;
}

static CUresult copy_extra(struct kernel *k, void **extra)
{
	const void *buffer;
	CUresult r = read_extra(extra, &buffer, &k->packed_bytes);

	if (r != CUDA_SUCCESS)
		return r;
	k->arguments = malloc(k->packed_bytes + 1);
	if (!k->arguments)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (k->packed_bytes)
		memcpy(k->arguments, buffer, k->packed_bytes);
	return CUDA_SUCCESS;
}

/* The packed form points into the struct itself, so it is tied when the struct lies where
 * it stays. */
static void tie_extra(struct kernel *k)
{
	k->extra[0] = (void *)(uintptr_t)CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT;
	k->extra[1] = k->arguments;
	k->extra[2] = (void *)(uintptr_t)CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT;
	k->extra[3] = &k->packed_bytes;
	k->extra[4] = NULL;
	k->p.extra = k->extra;
}

CUresult sim_kernel_payload(const CUDA_KERNEL_NODE_PARAMS *params, struct sim_payload **out,
			    CUcontext *ctx)
{
	struct sim_function *f;
	struct kernel k = { .p = *params };
	CUresult r = check(params, &f);

	if (r != CUDA_SUCCESS)
		return r == CUDA_ERROR_INVALID_HANDLE ? CUDA_ERROR_INVALID_VALUE : r;
	*ctx = sim_ctx_handle(f->module->ctx);
	if (params->extra)
		r = copy_extra(&k, params->extra);
	else if (params->kernelParams)
		r = copy_params(&k, f->decl, params->kernelParams);
	if (r != CUDA_SUCCESS)
		return r;
	*out = sim_payload_new(CU_GRAPH_NODE_TYPE_KERNEL, &k, sizeof k, run_kernel,
			       drop_kernel);
	if (!*out)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (params->extra)
		tie_extra((*out)->params);
	return CUDA_SUCCESS;
}

/* ---- launches ------------------------------------------------------------------------ */

/* FUNC is checked before the stream, as the driver does. */
static CUresult launch(const CUDA_KERNEL_NODE_PARAMS *p, CUstream stream, bool ptsz)
{
	struct sim_function *f;
	struct sim_stream *s;
	struct rm_work work;
	CUresult r = check(p, &f);

	if (r == CUDA_SUCCESS)
		r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_stream_ctx(s) != f->module->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_stream_capturing(s))
		return sim_capture_kernel(s, p);
	work_of(f, p, &work);
	return sim_launch_work(s, &work);
}

/* Whether all blocks of the grid fit on the device at once, as a cooperative launch needs.
 */
static CUresult check_cooperative(const CUDA_KERNEL_NODE_PARAMS *p)
{
	struct sim_function *f;
	struct sim_limits l;
	int per_sm = 0;
	CUresult r = check(p, &f);

	if (r != CUDA_SUCCESS)
		return r;
	uint64_t blocks = (uint64_t)p->gridDimX * p->gridDimY * p->gridDimZ;
	unsigned threads = p->blockDimX * p->blockDimY * p->blockDimZ;
	r = sim_occupancy(f, threads, p->sharedMemBytes, &per_sm);
	if (r != CUDA_SUCCESS)
		return r;
	sim_limits_of(f->module->ctx, &l);
	return blocks > (uint64_t)per_sm * l.sm_count
		       ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
		       : CUDA_SUCCESS;
}

#define KERNEL(f, gx, gy, gz, bx, by, bz, shared, params, more)                       \
	{                                                                             \
		.func = (f), .gridDimX = (gx), .gridDimY = (gy), .gridDimZ = (gz),    \
		.blockDimX = (bx), .blockDimY = (by), .blockDimZ = (bz),              \
		.sharedMemBytes = (shared), .kernelParams = (params), .extra = (more) \
	}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
			unsigned int gridDimZ, unsigned int blockDimX,
			unsigned int blockDimY, unsigned int blockDimZ,
			unsigned int sharedMemBytes, CUstream hStream, void **kernelParams,
			void **extra)
{
	SIM_ENTER();
	CUDA_KERNEL_NODE_PARAMS p = KERNEL(f, gridDimX, gridDimY, gridDimZ, blockDimX,
					   blockDimY, blockDimZ, sharedMemBytes,
					   kernelParams, extra);
	return launch(&p, hStream, false);
}

CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
			     unsigned int gridDimZ, unsigned int blockDimX,
			     unsigned int blockDimY, unsigned int blockDimZ,
			     unsigned int sharedMemBytes, CUstream hStream,
			     void **kernelParams, void **extra)
{
	SIM_ENTER();
	CUDA_KERNEL_NODE_PARAMS p = KERNEL(f, gridDimX, gridDimY, gridDimZ, blockDimX,
					   blockDimY, blockDimZ, sharedMemBytes,
					   kernelParams, extra);
	return launch(&p, hStream, true);
}

static CUresult launch_cooperative(const CUDA_KERNEL_NODE_PARAMS *p, CUstream stream,
				   bool ptsz)
{
	CUresult r = check_cooperative(p);

	return r == CUDA_SUCCESS ? launch(p, stream, ptsz) : r;
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX,
				   unsigned int gridDimY, unsigned int gridDimZ,
				   unsigned int blockDimX, unsigned int blockDimY,
				   unsigned int blockDimZ, unsigned int sharedMemBytes,
				   CUstream hStream, void **kernelParams)
{
	SIM_ENTER();
	CUDA_KERNEL_NODE_PARAMS p = KERNEL(f, gridDimX, gridDimY, gridDimZ, blockDimX,
					   blockDimY, blockDimZ, sharedMemBytes,
					   kernelParams, NULL);
	return launch_cooperative(&p, hStream, false);
}

CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned int gridDimX,
					unsigned int gridDimY, unsigned int gridDimZ,
					unsigned int blockDimX, unsigned int blockDimY,
					unsigned int blockDimZ, unsigned int sharedMemBytes,
					CUstream hStream, void **kernelParams)
{
	SIM_ENTER();
	CUDA_KERNEL_NODE_PARAMS p = KERNEL(f, gridDimX, gridDimY, gridDimZ, blockDimX,
					   blockDimY, blockDimZ, sharedMemBytes,
					   kernelParams, NULL);
	return launch_cooperative(&p, hStream, true);
}

static CUresult check_cluster(const CUlaunchConfig *c, const CUlaunchAttributeValue *v)
{
	uint64_t blocks = (uint64_t)v->clusterDim.x * v->clusterDim.y * v->clusterDim.z;

	if (!blocks || blocks > 16 || c->gridDimX % v->clusterDim.x ||
	    c->gridDimY % v->clusterDim.y || c->gridDimZ % v->clusterDim.z)
		return CUDA_ERROR_INVALID_CLUSTER_SIZE;
	return CUDA_SUCCESS;
}

static CUresult check_attributes(const CUlaunchConfig *c, bool *cooperative)
{
	*cooperative = false;
	if (c->numAttrs && !c->attrs)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned i = 0; i < c->numAttrs; i++) {
		const CUlaunchAttribute *a = &c->attrs[i];
		if ((unsigned)a->id >= CU_LAUNCH_ATTRIBUTE_MAX)
			return CUDA_ERROR_INVALID_VALUE;
		if (a->id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
			*cooperative = a->value.cooperative != 0;
		CUresult r = a->id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
				     ? check_cluster(c, &a->value)
				     : CUDA_SUCCESS;
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

/* Events that a launch records: when its blocks have begun, or say so, which is at its end here. */
static CUresult record_attributes(const CUlaunchConfig *c, bool ptsz)
{
	struct sim_stream *s;
	CUresult r = CUDA_SUCCESS;

	for (unsigned i = 0; i < c->numAttrs && r == CUDA_SUCCESS; i++) {
		const CUlaunchAttribute *a = &c->attrs[i];
		CUevent event = a->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT
					? a->value.programmaticEvent.event
				: a->id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT
					? a->value.launchCompletionEvent.event
					: NULL;
		if (event)
			r = sim_stream_get(c->hStream, ptsz, &s);
		if (event && r == CUDA_SUCCESS && !sim_stream_capturing(s))
			r = sim_event_record(event, s);
	}
	return r;
}

static CUresult launch_config(const CUlaunchConfig *c, CUfunction f, void **params,
			      void **extra, bool ptsz)
{
	bool cooperative;

	if (!c)
		return CUDA_ERROR_INVALID_VALUE;
	CUDA_KERNEL_NODE_PARAMS p = KERNEL(f, c->gridDimX, c->gridDimY, c->gridDimZ,
					   c->blockDimX, c->blockDimY, c->blockDimZ,
					   c->sharedMemBytes, params, extra);
	CUresult r = check_attributes(c, &cooperative);
	if (r != CUDA_SUCCESS)
		return r;
	r = cooperative ? launch_cooperative(&p, c->hStream, ptsz)
			: launch(&p, c->hStream, ptsz);
	return r == CUDA_SUCCESS && c->numAttrs ? record_attributes(c, ptsz) : r;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams,
			  void **extra)
{
	SIM_ENTER();
	return launch_config(config, f, kernelParams, extra, false);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f,
			       void **kernelParams, void **extra)
{
	SIM_ENTER();
	return launch_config(config, f, kernelParams, extra, true);
}

static CUresult check_peer_launch(const CUDA_LAUNCH_PARAMS *l,
				  const CUDA_LAUNCH_PARAMS *first)
{
	CUDA_KERNEL_NODE_PARAMS p = KERNEL(
		l->function, l->gridDimX, l->gridDimY, l->gridDimZ, l->blockDimX,
		l->blockDimY, l->blockDimZ, l->sharedMemBytes, l->kernelParams, NULL);

	if (!l->hStream || l->gridDimX != first->gridDimX ||
	    l->gridDimY != first->gridDimY || l->gridDimZ != first->gridDimZ ||
	    l->blockDimX != first->blockDimX || l->blockDimY != first->blockDimY ||
	    l->blockDimZ != first->blockDimZ || l->sharedMemBytes != first->sharedMemBytes)
		return CUDA_ERROR_INVALID_VALUE;
	return check_cooperative(&p);
}

CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launchParamsList,
					      unsigned int numDevices, unsigned int flags)
{
	SIM_ENTER();
	if (!launchParamsList || !numDevices || numDevices > (unsigned)sim_device_count() ||
	    flags > (CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_PRE_LAUNCH_SYNC |
		     CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_POST_LAUNCH_SYNC))
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned i = 0; i < numDevices; i++) {
		CUresult r = check_peer_launch(&launchParamsList[i], launchParamsList);
		if (r != CUDA_SUCCESS)
			return r;
	}
	for (unsigned i = 0; i < numDevices; i++) {
		const CUDA_LAUNCH_PARAMS *l = &launchParamsList[i];
		CUDA_KERNEL_NODE_PARAMS p = KERNEL(l->function, l->gridDimX, l->gridDimY,
						   l->gridDimZ, l->blockDimX, l->blockDimY,
						   l->blockDimZ, l->sharedMemBytes,
						   l->kernelParams, NULL);
		CUresult r = launch(&p, l->hStream, false);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}
