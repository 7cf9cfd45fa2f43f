/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pace.h"
#include "process.h"
#include "tr_test.h"

#define NEVER     (UINT64_C(1) << 62)
#define STREAMS   64u
#define EVENTS    2048u
#define NS_PER_S  UINT64_C(1000000000)
#define QUEUE_NS  (2 * NS_PER_S)
#define NS_PER_US UINT64_C(1000)

struct event {
	uint64_t at_ns; /* when it is reached; NEVER */
};

struct gpu gpu;

static struct {
	CUstream stream;
	uint64_t end_ns; /* of what is queued there */
} streams[STREAMS];
static struct event events[EVENTS];
static char policy[80];
static struct tr_page writer;

/* ---- what the hook stands on --------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *out)
{
	(void)clock;
	out->tv_sec = (time_t)(gpu.now_ns / NS_PER_S);
	out->tv_nsec = (long)(gpu.now_ns % NS_PER_S);
	return 0;
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
	uint64_t ns = (uint64_t)want->tv_sec * NS_PER_S + (uint64_t)want->tv_nsec;

	(void)left;
	gpu.now_ns += ns;
	gpu.waits++;
	if (ns > gpu.longest_sleep_ns)
		gpu.longest_sleep_ns = ns;
	return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want,
		    struct timespec *left)
{
	(void)clock;
	(void)flags;
	return nanosleep(want, left);
}

CUresult tr_device_current(tr_dev *dev, CUcontext *ctx)
{
	dev->at = 0;
	*ctx = gpu.ctx;
	return gpu.ctx ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult tr_device_of(CUdevice ordinal, tr_dev *dev)
{
	dev->at = 0;
	return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

/* ---- the driver ---------------------------------------------------------------------- */

static uint64_t *end_of(CUstream stream)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		if (!streams[i].stream)
			streams[i].stream = stream;
		if (streams[i].stream == stream)
			return &streams[i].end_ns;
	}
	abort();
}

static CUresult run(uint64_t ns, CUstream stream)
{
	uint64_t *end_ns, from_ns;

	gpu.launches++;
	gpu.records_before_launch = gpu.records;
	gpu.now_ns += gpu.launch_ns;
	if (gpu.is_capturing)
		return CUDA_SUCCESS;
	/* As the driver does when its queue is full. */
	if (!gpu.is_hung && gpu.free_ns > gpu.now_ns + QUEUE_NS)
		gpu.now_ns = gpu.free_ns - QUEUE_NS;
	end_ns = end_of(tr_stream_of(stream, false));
	from_ns = gpu.free_ns > gpu.now_ns ? gpu.free_ns : gpu.now_ns;
	if (from_ns < *end_ns)
		from_ns = *end_ns;
	*end_ns = gpu.is_hung ? NEVER : from_ns + ns;
	gpu.free_ns = *end_ns;
	gpu.busy_ns += ns;
	return CUDA_SUCCESS;
}

static CUresult launch(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
		       unsigned by, unsigned bz, unsigned shared, CUstream stream,
		       void **params, void **extra)
{
	(void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz;
	(void)shared, (void)params, (void)extra;
	return run(((uintptr_t)f - 16) / 16 * NS_PER_US, stream);
}

static CUresult launch_graph(CUgraphExec exec, CUstream stream)
{
	return run(((uintptr_t)exec - 24) / 16 * NS_PER_US, stream);
}

static bool fails(void)
{
	if (!gpu.fail_events)
		return false;
	gpu.fail_events--;
	return true;
}

static CUresult create_event(CUevent *out, unsigned flags)
{
	struct event *event;

	(void)flags;
	if (fails())
		return CUDA_ERROR_OUT_OF_MEMORY;
	assert_true(gpu.events_live < EVENTS);
	event = &events[gpu.events_live++];
	event->at_ns = NEVER;
	*out = (CUevent)(void *)event;
	return CUDA_SUCCESS;
}

static CUresult record_event(CUevent handle, CUstream stream)
{
	struct event *event = (struct event *)(void *)handle;
	uint64_t end_ns = *end_of(tr_stream_of(stream, false));

	if (gpu.is_capturing)
		gpu.captured_events++;
	if (fails())
		return CUDA_ERROR_INVALID_HANDLE;
	gpu.records++;
	event->at_ns = end_ns > gpu.now_ns ? end_ns : gpu.now_ns;
	return CUDA_SUCCESS;
}

static CUresult query_event(CUevent handle)
{
	const struct event *event = (const struct event *)(const void *)handle;

	if (gpu.is_capturing)
		gpu.captured_events++;
	if (fails())
		return CUDA_ERROR_LAUNCH_FAILED;
	return event->at_ns <= gpu.now_ns ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

/* As the driver gives it: a float, of half a microsecond. */
static CUresult elapsed(float *ms, CUevent from, CUevent to)
{
	const struct event *a = (const struct event *)(const void *)from,
			   *b = (const struct event *)(const void *)to;

	if (fails())
		return CUDA_ERROR_INVALID_HANDLE;
	*ms = (float)((double)((int64_t)(b->at_ns - a->at_ns) / 500) / 2000.0);
	return CUDA_SUCCESS;
}

static CUresult is_capturing(CUstream stream, CUstreamCaptureStatus *status)
{
	(void)stream;
	*status = gpu.is_capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE
				   : CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

static CUresult begin_capture(CUstream stream, CUstreamCaptureMode mode)
{
	(void)stream, (void)mode;
	gpu.is_capturing = true;
	return CUDA_SUCCESS;
}

static CUresult end_capture(CUstream stream, CUgraph *out)
{
	(void)stream;
	*out = NULL;
	gpu.is_capturing = false;
	return CUDA_SUCCESS;
}

static CUresult synchronise(void)
{
	if (gpu.free_ns > gpu.now_ns)
		gpu.now_ns = gpu.free_ns;
	return CUDA_SUCCESS;
}

static CUresult name_of(const char **out, CUfunction f)
{
	(void)f;
	*out = gpu.name;
	return CUDA_SUCCESS;
}

static CUresult ok_context(CUcontext ctx)
{
	gpu.ctx = ctx;
	return CUDA_SUCCESS;
}

static void fill_real(void)
{
	tr_real = (struct tr_real){
		.cuLaunchKernel = launch,
		.cuLaunchKernel_ptsz = launch,
		.cuGraphLaunch = launch_graph,
		.cuEventCreate = create_event,
		.cuEventRecord = record_event,
		.cuEventQuery = query_event,
		.cuEventElapsedTime = elapsed,
		.cuStreamIsCapturing = is_capturing,
		.cuStreamBeginCapture_v2 = begin_capture,
		.cuStreamEndCapture = end_capture,
		.cuCtxSynchronize = synchronise,
		.cuFuncGetName = name_of,
		.cuCtxSetCurrent = ok_context,
	};
}

/* ---- the process --------------------------------------------------------------------- */

void gpu_set(unsigned percent)
{
	atomic_store(&writer.writable->devices[0].rate_q32, TR_RATE_ALL * percent / 100);
}

void gpu_share(unsigned sharers)
{
	atomic_store(&writer.writable->devices[0].sharers, sharers);
}

void gpu_start(unsigned percent)
{
	const struct tr_page_device device = { .uuid = "GPU-0",
					       .limit_bytes = TR_UNLIMITED };
	const struct tr_page_spec spec = { .name = "test",
					   .state_path = process_state,
					   .serial = PROCESS_SERIAL,
					   .armed = true,
					   .device_count = 1,
					   .devices = &device };

	gpu = (struct gpu){ .now_ns = 1000 * NS_PER_S,
			    .launch_ns = 2000,
			    .name = "kernel" };
	gpu.ctx = (CUcontext)(void *)&gpu;
	memset(streams, 0, sizeof(streams));
	fill_real();
	process_start();
	(void)snprintf(policy, sizeof(policy), "%s/policy", process_dir);
	assert_int_equal(tr_page_create(policy, &spec, NULL), 0);
	assert_int_equal(tr_page_open_writer(&writer, policy, NULL), 0);
	assert_int_equal(tr_page_open(&tr_self.page, policy, NULL), 0);
	tr_self.has_page = true;
	tr_self.ledger.policy = tr_self.page.map;
	gpu_set(percent);
	tr_pace_forget();
	memset(&tr_pace_here, 0, sizeof(tr_pace_here));
	atomic_store(&tr_pace_is_armed, true);
}

void gpu_end(void)
{
	tr_page_close(&tr_self.page);
	tr_page_close(&writer);
	assert_int_equal(unlink(policy), 0);
	process_end();
}

void gpu_reseat(void)
{
	tr_pace_forget();
}

struct tr_state_pace *gpu_pace(void)
{
	return &tr_self.ledger.state->pace[0];
}

CUresult gpu_launch(unsigned us, CUstream stream)
{
	return cuLaunchKernel(GPU_KERNEL(us), 128, 1, 1, 32, 1, 1, 0, stream, NULL, NULL);
}

void gpu_host(uint64_t ns)
{
	gpu.now_ns += ns;
}

void gpu_wait(void)
{
	tr_pace_wait_begin(NULL);
	(void)synchronise();
	tr_pace_wait_end();
}
