/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host functions and callbacks of streams. They run in the driver's thread, after what came
 * before them in the stream and before what comes after; the submitting thread never waits
 * for them, so that it may hold a lock that they take.
 */
#include "queue.h"
#include "stream.h"
#include "stream_list.h"

static CUresult run_host_function(void *params, struct sim_ctx *ctx)
{
	const CUDA_HOST_NODE_PARAMS *host = params;

	(void)ctx;
	sim_lane_reach();
	sim_queue_set_in_callback(true);
	host->fn(host->userData);
	sim_queue_set_in_callback(false);
	return CUDA_SUCCESS;
}

static CUresult launch_host(CUstream handle, bool ptsz, CUhostFn fn, void *user)
{
	CUDA_HOST_NODE_PARAMS params = { .fn = fn, .userData = user };
	const struct sim_op op = {
		.type = CU_GRAPH_NODE_TYPE_HOST,
		.run = run_host_function,
		.params = &params,
		.params_bytes = sizeof(params),
	};
	struct sim_stream *s;
	CUresult r = sim_stream_get(handle, ptsz, &s);

	if (r != CUDA_SUCCESS)
		return r;
	if (!fn)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_stream_capturing(s) ? sim_submit(s, &op)
				       : stream_submit(s->priv, &op, true);
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData)
{
	SIM_ENTER();
	return launch_host(hStream, false, fn, userData);
}

CUresult cuLaunchHostFunc_ptsz(CUstream hStream, CUhostFn fn, void *userData)
{
	SIM_ENTER();
	return launch_host(hStream, true, fn, userData);
}

static CUresult launch_host_mode(CUstream handle, bool ptsz, CUhostFn fn, void *user,
				 unsigned int mode)
{
	if (mode != CU_HOST_TASK_BLOCKING && mode != CU_HOST_TASK_SPINWAIT)
		return CUDA_ERROR_INVALID_VALUE;
	return launch_host(handle, ptsz, fn, user);
}

CUresult cuLaunchHostFunc_v2(CUstream hStream, CUhostFn fn, void *userData,
			     unsigned int syncMode)
{
	SIM_ENTER();
	return launch_host_mode(hStream, false, fn, userData, syncMode);
}

CUresult cuLaunchHostFunc_v2_ptsz(CUstream hStream, CUhostFn fn, void *userData,
				  unsigned int syncMode)
{
	SIM_ENTER();
	return launch_host_mode(hStream, true, fn, userData, syncMode);
}

struct callback {
	CUstream stream;
	CUstreamCallback function;
	void *user;
};

static CUresult run_callback(void *params, struct sim_ctx *ctx)
{
	const struct callback *callback = params;
	CUresult r = sim_lane_reach();

	(void)ctx;
	sim_queue_set_in_callback(true);
	callback->function(callback->stream, r, callback->user);
	sim_queue_set_in_callback(false);
	return CUDA_SUCCESS;
}

static CUresult add_callback(CUstream handle, bool ptsz, CUstreamCallback function,
			     void *user, unsigned int flags)
{
	struct callback params = { handle, function, user };
	const struct sim_op op = {
		.run = run_callback,
		.params = &params,
		.params_bytes = sizeof(params),
	};
	struct sim_stream *s;
	CUresult r = sim_stream_get(handle, ptsz, &s);

	if (r == CUDA_SUCCESS)
		r = sim_capture_prohibits(s);
	if (r != CUDA_SUCCESS)
		return r;
	if (!function || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	return stream_submit(s->priv, &op, true);
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData,
			     unsigned int flags)
{
	SIM_ENTER();
	return add_callback(hStream, false, callback, userData, flags);
}

CUresult cuStreamAddCallback_ptsz(CUstream hStream, CUstreamCallback callback,
				  void *userData, unsigned int flags)
{
	SIM_ENTER();
	return add_callback(hStream, true, callback, userData, flags);
}
