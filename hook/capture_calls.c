/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream captures. What is launched into a stream that captures does not run: it is neither
 * charged nor held, and nothing of ours may come into the graph. How many captures there are
 * is counted, so that who launches without any need not ask.
 */
#include "pace.h"
#include "rt/file.h"

/* A capture whose end was not seen (its stream was destroyed) is not waited for longer. */
#define LOST_NS UINT64_C(10000000000)

static _Atomic uint32_t captures;
static _Atomic uint64_t seen_ns; /* a sign of a capture */

void tr_captures_forget(void)
{
	atomic_store(&captures, 0);
}

bool tr_captures_any(void)
{
	if (__builtin_expect(!atomic_load_explicit(&captures, memory_order_relaxed), 1))
		return false;
	if (tr_clock_ns() - atomic_load(&seen_ns) < LOST_NS)
		return true;
	tr_captures_forget();
	return false;
}

bool tr_is_stream_capturing(CUstream stream)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	if (!tr_real.cuStreamIsCapturing)
		return false;
	/* An error means that the legacy stream stands behind somebody's capture. */
	return tr_real.cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS ||
	       status != CU_STREAM_CAPTURE_STATUS_NONE;
}

bool tr_is_captured(CUstream stream)
{
	if (!tr_captures_any() || !tr_is_stream_capturing(stream))
		return false;
	atomic_store_explicit(&seen_ns, tr_clock_ns(), memory_order_relaxed);
	return true;
}

static void begin(void)
{
	atomic_store(&seen_ns, tr_clock_ns());
	atomic_fetch_add(&captures, 1);
	tr_pace_stop_all();
}

static void end(void)
{
	uint32_t seen = atomic_load(&captures);

	while (seen && !atomic_compare_exchange_weak(&captures, &seen, seen - 1))
		;
}

static void begun(CUresult res)
{
	if (res != CUDA_SUCCESS)
		end();
	tr_leave();
}

#define BEGIN(symbol, ...)                          \
	do {                                        \
		bool is_entered_ = tr_enter();      \
		CUresult res_;                      \
                                                    \
		if (is_entered_)                    \
			begin();                    \
		res_ = tr_real.symbol(__VA_ARGS__); \
		if (is_entered_)                    \
			begun(res_);                \
		return res_;                        \
	} while (0)

CUresult cuStreamBeginCapture(CUstream hStream)
{
	BEGIN(cuStreamBeginCapture, hStream);
}

CUresult cuStreamBeginCapture_ptsz(CUstream hStream)
{
	BEGIN(cuStreamBeginCapture_ptsz, hStream);
}

CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
{
	BEGIN(cuStreamBeginCapture_v2, hStream, mode);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream hStream, CUstreamCaptureMode mode)
{
	BEGIN(cuStreamBeginCapture_v2_ptsz, hStream, mode);
}

CUresult cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph,
				     const CUgraphNode *dependencies,
				     const CUgraphEdgeData *dependencyData,
				     size_t numDependencies, CUstreamCaptureMode mode)
{
	BEGIN(cuStreamBeginCaptureToGraph, hStream, hGraph, dependencies, dependencyData,
	      numDependencies, mode);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream hStream, CUgraph hGraph,
					  const CUgraphNode *dependencies,
					  const CUgraphEdgeData *dependencyData,
					  size_t numDependencies, CUstreamCaptureMode mode)
{
	BEGIN(cuStreamBeginCaptureToGraph_ptsz, hStream, hGraph, dependencies,
	      dependencyData, numDependencies, mode);
}

CUresult cuStreamBeginRecaptureToGraph(CUstream hStream, CUstreamCaptureMode mode,
				       CUgraph hGraph,
				       CUgraphRecaptureCallback callbackFunc,
				       void *userData)
{
	BEGIN(cuStreamBeginRecaptureToGraph, hStream, mode, hGraph, callbackFunc, userData);
}

CUresult cuStreamBeginRecaptureToGraph_ptsz(CUstream hStream, CUstreamCaptureMode mode,
					    CUgraph hGraph,
					    CUgraphRecaptureCallback callbackFunc,
					    void *userData)
{
	BEGIN(cuStreamBeginRecaptureToGraph_ptsz, hStream, mode, hGraph, callbackFunc,
	      userData);
}

CUresult cuStreamBeginCaptureToCig(CUstream hStream,
				   CUstreamCigCaptureParams *streamCigCaptureParams)
{
	BEGIN(cuStreamBeginCaptureToCig, hStream, streamCigCaptureParams);
}

CUresult cuStreamBeginCaptureToCig_ptsz(CUstream hStream,
					CUstreamCigCaptureParams *streamCigCaptureParams)
{
	BEGIN(cuStreamBeginCaptureToCig_ptsz, hStream, streamCigCaptureParams);
}

/* An end may fail and end it all the same, or fail because there is nothing to end. */
static void ended(bool was_capturing, CUstream stream)
{
	if (was_capturing && !tr_is_stream_capturing(stream))
		end();
	tr_leave();
}

#define END(symbol, stream, ...)                                            \
	do {                                                                \
		CUstream stream_ = (stream);                                \
		bool is_entered_ = tr_enter();                              \
		bool was_ = is_entered_ && tr_is_stream_capturing(stream_); \
		CUresult res_ = tr_real.symbol(__VA_ARGS__);                \
                                                                            \
		if (is_entered_)                                            \
			ended(was_, stream_);                               \
		return res_;                                                \
	} while (0)

CUresult cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
{
	END(cuStreamEndCapture, tr_stream_of(hStream, false), hStream, phGraph);
}

CUresult cuStreamEndCapture_ptsz(CUstream hStream, CUgraph *phGraph)
{
	END(cuStreamEndCapture_ptsz, tr_stream_of(hStream, true), hStream, phGraph);
}

CUresult cuStreamEndCaptureToCig(CUstream hStream)
{
	END(cuStreamEndCaptureToCig, tr_stream_of(hStream, false), hStream);
}

CUresult cuStreamEndCaptureToCig_ptsz(CUstream hStream)
{
	END(cuStreamEndCaptureToCig_ptsz, tr_stream_of(hStream, true), hStream);
}
