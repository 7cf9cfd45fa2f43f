/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_EVENTS_H
#define TR_HOOK_EVENTS_H

#include "hook.h"

/* Calls of the driver around events that marks make. */

#define TR_NS_PER_MS  1e6
#define TR_LONGEST_MS 1e8f

/* Events may be made and asked while another thread of the program captures. */
static inline CUstreamCaptureMode tr_capture_relax(void)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

	if (tr_real.cuThreadExchangeStreamCaptureMode &&
	    tr_real.cuThreadExchangeStreamCaptureMode(&mode) != CUDA_SUCCESS)
		mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	return mode;
}

static inline void tr_capture_unrelax(CUstreamCaptureMode mode)
{
	if (tr_real.cuThreadExchangeStreamCaptureMode)
		(void)tr_real.cuThreadExchangeStreamCaptureMode(&mode);
}

/* From one to the other by the device's clock; false: not known. */
static inline bool tr_event_elapsed_ns(CUevent from, CUevent to, int64_t *ns)
{
	float ms = 0;

	if (tr_real.cuEventElapsedTime(&ms, from, to) != CUDA_SUCCESS ||
	    !(ms > -TR_LONGEST_MS && ms < TR_LONGEST_MS))
		return false;
	*ns = (int64_t)((double)ms * TR_NS_PER_MS);
	return true;
}

#endif /* TR_HOOK_EVENTS_H */
