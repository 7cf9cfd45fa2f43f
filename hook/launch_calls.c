/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel launches. The body counts down what the thread was given and jumps to the driver,
 * or else goes the slow way around the call (pace.h). All of these rows are routed in an
 * armed slice only.
 */
#include "lock.h"
#include "pace.h"

#ifdef __clang__
#define NEVER_INLINE __attribute__((noinline, cold, minsize))
#else
#define NEVER_INLINE __attribute__((noinline, cold, optimize("Os")))
#endif

/* The driver's call with a look before and after. */
#define SLOWLY(what_, stream_, key_, call)                         \
	do {                                                       \
		struct tr_submission s_ = { .stream = (stream_),   \
					    .key = (key_),         \
					    .function = (what_) }; \
		bool is_entered_ = tr_enter();                     \
		CUresult res_;                                     \
                                                                   \
		if (is_entered_)                                   \
			tr_pace_begin(&s_);                        \
		res_ = call;                                       \
		if (is_entered_) {                                 \
			tr_pace_end(&s_, res_);                    \
			tr_leave();                                \
		}                                                  \
		return res_;                                       \
	} while (0)

static inline uint64_t blocks_of(unsigned x, unsigned y, unsigned z)
{
	return (uint64_t)x * y * z;
}

/* A row and its twin. The parameters' names are the header's. */
#define LAUNCH(symbol, twin, what, blocks, stream, params, ...)                   \
	NEVER_INLINE static CUresult symbol##_slowly params                       \
	{                                                                         \
		SLOWLY(what, tr_stream_of(stream, twin), tr_key_of(what, blocks), \
		       tr_real.symbol(__VA_ARGS__));                              \
	}                                                                         \
	CUresult symbol params                                                    \
	{                                                                         \
		if (__builtin_expect(tr_pace_is_given(tr_stream_of(stream, twin), \
						      tr_key_of(what, blocks)),   \
				     1))                                          \
			return tr_real.symbol(__VA_ARGS__);                       \
		return symbol##_slowly(__VA_ARGS__);                              \
	}

#define KERNEL_PARAMS                                                           \
	(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,            \
	 unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY, \
	 unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream, \
	 void **kernelParams, void **extra)
#define KERNEL_ARGUMENTS                                                                  \
	f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes, \
		hStream, kernelParams, extra

LAUNCH(cuLaunchKernel, false, f, blocks_of(gridDimX, gridDimY, gridDimZ), hStream,
       KERNEL_PARAMS, KERNEL_ARGUMENTS)
LAUNCH(cuLaunchKernel_ptsz, true, f, blocks_of(gridDimX, gridDimY, gridDimZ), hStream,
       KERNEL_PARAMS, KERNEL_ARGUMENTS)

#define COOPERATIVE_PARAMS                                                      \
	(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,            \
	 unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY, \
	 unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream, \
	 void **kernelParams)
#define COOPERATIVE_ARGUMENTS                                                             \
	f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes, \
		hStream, kernelParams

LAUNCH(cuLaunchCooperativeKernel, false, f, blocks_of(gridDimX, gridDimY, gridDimZ),
       hStream, COOPERATIVE_PARAMS, COOPERATIVE_ARGUMENTS)
LAUNCH(cuLaunchCooperativeKernel_ptsz, true, f, blocks_of(gridDimX, gridDimY, gridDimZ),
       hStream, COOPERATIVE_PARAMS, COOPERATIVE_ARGUMENTS)

/* Without a configuration the driver says what is wrong. */
static inline CUstream stream_in(const CUlaunchConfig *config)
{
	return config ? config->hStream : NULL;
}

static inline uint64_t blocks_in(const CUlaunchConfig *config)
{
	return config ? blocks_of(config->gridDimX, config->gridDimY, config->gridDimZ) : 0;
}

#define EX_PARAMS \
	(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra)

LAUNCH(cuLaunchKernelEx, false, f, blocks_in(config), stream_in(config), EX_PARAMS, config,
       f, kernelParams, extra)
LAUNCH(cuLaunchKernelEx_ptsz, true, f, blocks_in(config), stream_in(config), EX_PARAMS,
       config, f, kernelParams, extra)

/* The launches of before CUDA 4: no fast way for them. */
NEVER_INLINE CUresult cuLaunch(CUfunction f)
{
	SLOWLY(f, CU_STREAM_LEGACY, tr_key_of(f, 1), tr_real.cuLaunch(f));
}

NEVER_INLINE CUresult cuLaunchGrid(CUfunction f, int grid_width, int grid_height)
{
	SLOWLY(f, CU_STREAM_LEGACY,
	       tr_key_of(f, blocks_of((unsigned)grid_width, (unsigned)grid_height, 1)),
	       tr_real.cuLaunchGrid(f, grid_width, grid_height));
}

NEVER_INLINE CUresult cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height,
					CUstream hStream)
{
	SLOWLY(f, tr_stream_of(hStream, false),
	       tr_key_of(f, blocks_of((unsigned)grid_width, (unsigned)grid_height, 1)),
	       tr_real.cuLaunchGridAsync(f, grid_width, grid_height, hStream));
}

/* Makes the context of STREAM current, which need not be the thread's. */
NEVER_INLINE static bool enter_context_of(CUstream stream)
{
	CUcontext ctx = NULL;

	return tr_real.cuStreamGetCtx && tr_real.cuCtxPushCurrent_v2 &&
	       tr_real.cuStreamGetCtx(stream, &ctx) == CUDA_SUCCESS &&
	       tr_real.cuCtxPushCurrent_v2(ctx) == CUDA_SUCCESS;
}

NEVER_INLINE static void leave_context(bool was_entered)
{
	CUcontext ctx;

	if (was_entered)
		(void)tr_real.cuCtxPopCurrent_v2(&ctx);
}

/* One kernel on several devices that wait for one another: it is measured on the first, and what it
 * takes there it takes on all. The gates of the others come first: no sleep is to be in what is
 * measured. */
NEVER_INLINE CUresult cuLaunchCooperativeKernelMultiDevice(
	CUDA_LAUNCH_PARAMS *launchParamsList, unsigned int numDevices, unsigned int flags)
{
	struct tr_submission s = { 0 };
	bool was_entered;
	CUresult res;

	if (!launchParamsList || !numDevices || !tr_enter())
		return tr_real.cuLaunchCooperativeKernelMultiDevice(launchParamsList,
								    numDevices, flags);
	s.stream = tr_stream_of(launchParamsList->hStream, false);
	s.function = launchParamsList->function;
	s.key = tr_key_of(s.function,
			  blocks_of(launchParamsList->gridDimX, launchParamsList->gridDimY,
				    launchParamsList->gridDimZ));
	for (unsigned i = 1; i < numDevices; i++) {
		was_entered = enter_context_of(launchParamsList[i].hStream);
		tr_pace_also_begin();
		leave_context(was_entered);
	}
	was_entered = enter_context_of(s.stream);
	tr_pace_begin(&s);
	leave_context(was_entered);
	res = tr_real.cuLaunchCooperativeKernelMultiDevice(launchParamsList, numDevices,
							   flags);
	was_entered = enter_context_of(s.stream);
	tr_pace_end(&s, res);
	leave_context(was_entered);
	for (unsigned i = 1; res == CUDA_SUCCESS && i < numDevices; i++) {
		was_entered = enter_context_of(launchParamsList[i].hStream);
		tr_pace_also(&s);
		leave_context(was_entered);
	}
	tr_leave();
	return res;
}

/* ---- what else moves a thread's streams ---------------------------------------------- */

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	tr_pace_stop();
	return tr_real.cuCtxSetCurrent(ctx);
}

CUresult cuCtxPushCurrent(CUcontext ctx)
{
	tr_pace_stop();
	return tr_real.cuCtxPushCurrent(ctx);
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
	tr_pace_stop();
	return tr_real.cuCtxPushCurrent_v2(ctx);
}

CUresult cuCtxPopCurrent(CUcontext *pctx)
{
	tr_pace_stop();
	return tr_real.cuCtxPopCurrent(pctx);
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
	tr_pace_stop();
	return tr_real.cuCtxPopCurrent_v2(pctx);
}

#define RECORD(symbol, stream, ...)                 \
	do {                                        \
		bool is_entered_ = tr_enter();      \
		CUresult res_;                      \
                                                    \
		if (is_entered_)                    \
			tr_pace_recording(stream);  \
		res_ = tr_real.symbol(__VA_ARGS__); \
		if (is_entered_)                    \
			tr_leave();                 \
		return res_;                        \
	} while (0)

NEVER_INLINE CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{
	RECORD(cuEventRecord, tr_stream_of(hStream, false), hEvent, hStream);
}

NEVER_INLINE CUresult cuEventRecord_ptsz(CUevent hEvent, CUstream hStream)
{
	RECORD(cuEventRecord_ptsz, tr_stream_of(hStream, true), hEvent, hStream);
}

NEVER_INLINE CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream,
					     unsigned int flags)
{
	RECORD(cuEventRecordWithFlags, tr_stream_of(hStream, false), hEvent, hStream,
	       flags);
}

NEVER_INLINE CUresult cuEventRecordWithFlags_ptsz(CUevent hEvent, CUstream hStream,
						  unsigned int flags)
{
	RECORD(cuEventRecordWithFlags_ptsz, tr_stream_of(hStream, true), hEvent, hStream,
	       flags);
}

NEVER_INLINE static CUresult destroy(CUresult (*driver)(CUstream), CUstream stream)
{
	CUresult res;

	if (!stream || !tr_enter())
		return driver(stream);
	tr_pace_stream_ends(stream);
	res = driver(stream);
	tr_leave();
	return res;
}

CUresult cuStreamDestroy(CUstream hStream)
{
	return destroy(tr_real.cuStreamDestroy, hStream);
}

CUresult cuStreamDestroy_v2(CUstream hStream)
{
	return destroy(tr_real.cuStreamDestroy_v2, hStream);
}

/* A program that asks until its work is done may end next: what nobody has measured is looked at. */
NEVER_INLINE static CUresult answered(CUresult res)
{
	if (res != CUDA_SUCCESS || !tr_pace_is_awaited() || !tr_enter())
		return res;
	tr_pace_wait_end();
	tr_leave();
	return res;
}

CUresult cuStreamQuery(CUstream hStream)
{
	return answered(tr_real.cuStreamQuery(hStream));
}

CUresult cuStreamQuery_ptsz(CUstream hStream)
{
	return answered(tr_real.cuStreamQuery_ptsz(hStream));
}

CUresult cuEventQuery(CUevent hEvent)
{
	return answered(tr_real.cuEventQuery(hEvent));
}

/* Another graph behind the same handle, mostly one much like it. */
NEVER_INLINE static CUgraphExec changed(CUgraphExec exec)
{
	tr_key_doubt(tr_key_of(exec, 0));
	return exec;
}

CUresult cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph,
			   CUgraphNode *hErrorNode_out,
			   CUgraphExecUpdateResult *updateResult_out)
{
	return tr_real.cuGraphExecUpdate(changed(hGraphExec), hGraph, hErrorNode_out,
					 updateResult_out);
}

CUresult cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
			      CUgraphExecUpdateResultInfo *resultInfo)
{
	return tr_real.cuGraphExecUpdate_v2(changed(hGraphExec), hGraph, resultInfo);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
	return tr_real.cuGraphExecKernelNodeSetParams(changed(hGraphExec), hNode,
						      nodeParams);
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
					   const CUDA_KERNEL_NODE_PARAMS_v2 *nodeParams)
{
	return tr_real.cuGraphExecKernelNodeSetParams_v2(changed(hGraphExec), hNode,
							 nodeParams);
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					    CUgraph childGraph)
{
	return tr_real.cuGraphExecChildGraphNodeSetParams(changed(hGraphExec), hNode,
							  childGraph);
}

CUresult cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
				  CUgraphNodeParams *nodeParams)
{
	return tr_real.cuGraphExecNodeSetParams(changed(hGraphExec), hNode, nodeParams);
}

CUresult cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
			       unsigned int isEnabled)
{
	return tr_real.cuGraphNodeSetEnabled(changed(hGraphExec), hNode, isEnabled);
}
