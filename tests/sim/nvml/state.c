/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <time.h>

/*
 * Clocks, power, heat, engines and modes: an idle board's values, constant for a model. The
 * plain numbers are rows of scalars.def; here is what takes an argument or fills a struct.
 */

unsigned int nv_power_mw(const struct nv_device *dev)
{
	uint64_t set = rm_state(dev->index, RM_POWER_MW);

	return set ? (unsigned int)set : dev->board->idle_mw;
}

uint64_t nv_energy_mj(const struct nv_device *dev)
{
	struct timespec up;

	clock_gettime(CLOCK_BOOTTIME, &up);
	return (uint64_t)up.tv_sec * dev->board->idle_mw +
	       (uint64_t)up.tv_nsec / 1000000u * dev->board->idle_mw / 1000u;
}

#define NV_ONE(function, type, condition, value)              \
	nvmlReturn_t function(nvmlDevice_t device, type *out) \
	{                                                     \
		struct nv_device dev;                         \
                                                              \
		NV_ENTER_DEVICE(device, &dev);                \
		if (!out)                                     \
			return NVML_ERROR_INVALID_ARGUMENT;   \
		if (!(condition))                             \
			return NVML_ERROR_NOT_SUPPORTED;      \
		*out = (type)(value);                         \
		return NVML_SUCCESS;                          \
	}
#define NV_TWO(function, type, condition, first, second)                 \
	nvmlReturn_t function(nvmlDevice_t device, type *one, type *two) \
	{                                                                \
		struct nv_device dev;                                    \
                                                                         \
		NV_ENTER_DEVICE(device, &dev);                           \
		if (!one || !two)                                        \
			return NVML_ERROR_INVALID_ARGUMENT;              \
		if (!(condition))                                        \
			return NVML_ERROR_NOT_SUPPORTED;                 \
		*one = (type)(first);                                    \
		*two = (type)(second);                                   \
		return NVML_SUCCESS;                                     \
	}
#include "nvml/scalars.def"
#undef NV_ONE
#undef NV_TWO

/* ---- clocks -------------------------------------------------------------------------- */

static unsigned int clock_max_mhz(const struct nv_device *dev, nvmlClockType_t type)
{
	if (type == NVML_CLOCK_MEM)
		return dev->facts->memory_clock_khz / 1000;
	if (type ==
	    NVML_CLOCK_VIDEO) /* the video clock keeps a fixed ratio to the core's */
		return dev->facts->clock_khz / 1000 * 9 / 10;
	return dev->facts->clock_khz / 1000;
}

static unsigned int clock_idle_mhz(const struct nv_device *dev, nvmlClockType_t type)
{
	if (type == NVML_CLOCK_MEM && dev->board->idle_memory_mhz == 0)
		return clock_max_mhz(dev, type);
	if (type == NVML_CLOCK_MEM)
		return dev->board->idle_memory_mhz;
	if (type == NVML_CLOCK_VIDEO)
		return dev->board->idle_sm_mhz * 9 / 10 + 255;
	return dev->board->idle_sm_mhz;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type,
				    unsigned int *clock)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!clock || type >= NVML_CLOCK_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*clock = clock_idle_mhz(&dev, type);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type,
				       unsigned int *clock)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!clock || type >= NVML_CLOCK_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*clock = clock_max_mhz(&dev, type);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device,
						nvmlClockType_t clockType,
						unsigned int *clockMHz)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!clockMHz || clockType >= NVML_CLOCK_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*clockMHz = clock_max_mhz(&dev, clockType);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t clockType,
				nvmlClockId_t clockId, unsigned int *clockMHz)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!clockMHz || clockType >= NVML_CLOCK_COUNT || clockId >= NVML_CLOCK_ID_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*clockMHz = clockId == NVML_CLOCK_ID_CURRENT ? clock_idle_mhz(&dev, clockType)
						     : clock_max_mhz(&dev, clockType);
	return NVML_SUCCESS;
}

static nvmlReturn_t application_clock(const struct nv_device *dev, nvmlClockType_t type,
				      unsigned int *clock_mhz)
{
	if (!clock_mhz || type >= NVML_CLOCK_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (dev->board->has_display || type == NVML_CLOCK_VIDEO)
		return NVML_ERROR_NOT_SUPPORTED;
	*clock_mhz = clock_max_mhz(dev, type);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t clockType,
					    unsigned int *clockMHz)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	return application_clock(&dev, clockType, clockMHz);
}

nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device,
						   nvmlClockType_t clockType,
						   unsigned int *clockMHz)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	return application_clock(&dev, clockType, clockMHz);
}

static nvmlReturn_t one_clock(unsigned int *count, unsigned int *clocks, unsigned int mhz)
{
	unsigned int room = *count;

	*count = 1;
	if (room < 1 || !clocks)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	clocks[0] = mhz;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count,
						unsigned int *clocksMHz)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	return one_clock(count, clocksMHz, clock_max_mhz(&dev, NVML_CLOCK_MEM));
}

nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device,
						  unsigned int memoryClockMHz,
						  unsigned int *count,
						  unsigned int *clocksMHz)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (memoryClockMHz != clock_max_mhz(&dev, NVML_CLOCK_MEM))
		return NVML_ERROR_NOT_FOUND;
	return one_clock(count, clocksMHz, clock_max_mhz(&dev, NVML_CLOCK_GRAPHICS));
}

/* ---- heat ---------------------------------------------------------------------------- */

static unsigned int celsius(const struct nv_device *dev)
{
	uint64_t set = rm_state(dev->index, RM_CELSIUS);

	return set ? (unsigned int)set : dev->board->idle_celsius;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device,
				      nvmlTemperatureSensors_t sensorType,
				      unsigned int *temp)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!temp || sensorType != NVML_TEMPERATURE_GPU)
		return NVML_ERROR_INVALID_ARGUMENT;
	*temp = celsius(&dev);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!temperature)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (temperature->version != nvmlTemperature_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (temperature->sensorType != NVML_TEMPERATURE_GPU)
		return NVML_ERROR_INVALID_ARGUMENT;
	temperature->temperature = (int)celsius(&dev);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device,
					       nvmlTemperatureThresholds_t thresholdType,
					       unsigned int *temp)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!temp || thresholdType >= NVML_TEMPERATURE_THRESHOLD_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (thresholdType == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
		*temp = dev.board->shutdown_celsius;
	else if (thresholdType == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
		*temp = dev.board->slowdown_celsius;
	else if (thresholdType == NVML_TEMPERATURE_THRESHOLD_GPU_MAX)
		*temp = dev.board->slowdown_celsius - 2;
	else if (thresholdType == NVML_TEMPERATURE_THRESHOLD_MEM_MAX &&
		 dev.board->has_memory_sensor)
		*temp = 95;
	else
		return NVML_ERROR_NOT_SUPPORTED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device,
					    nvmlMarginTemperature_t *marginTempInfo)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!marginTempInfo)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (marginTempInfo->version != nvmlMarginTemperature_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	marginTempInfo->marginTemperature = (int)dev.board->slowdown_celsius -
					    (int)celsius(&dev);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
				      unsigned int *speed)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!speed)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (dev.board->fans == 0)
		return NVML_ERROR_NOT_SUPPORTED;
	if (fan >= dev.board->fans)
		return NVML_ERROR_INVALID_ARGUMENT;
	*speed = 0; /* idle: the fans rest */
	return NVML_SUCCESS;
}

/* ---- engines ------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetEncoderCapacity(nvmlDevice_t device,
					  nvmlEncoderType_t encoderQueryType,
					  unsigned int *encoderCapacity)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!encoderCapacity || encoderQueryType > NVML_ENCODER_QUERY_AV1)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (dev.board->has_memory_sensor) /* boards with stacked memory have no encoder */
		return NVML_ERROR_NOT_SUPPORTED;
	*encoderCapacity = 100;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned int *sessionCount,
				       unsigned int *averageFps,
				       unsigned int *averageLatency)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!sessionCount || !averageFps || !averageLatency)
		return NVML_ERROR_INVALID_ARGUMENT;
	*sessionCount = 0;
	*averageFps = 0;
	*averageLatency = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderSessions(nvmlDevice_t device, unsigned int *sessionCount,
					  nvmlEncoderSessionInfo_t *sessionInfos)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	(void)sessionInfos;
	if (!sessionCount)
		return NVML_ERROR_INVALID_ARGUMENT;
	*sessionCount = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFBCStats(nvmlDevice_t device, nvmlFBCStats_t *fbcStats)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!fbcStats)
		return NVML_ERROR_INVALID_ARGUMENT;
	*fbcStats = (nvmlFBCStats_t){ 0 };
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *gpmSupport)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!gpmSupport)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (gpmSupport->version != NVML_GPM_SUPPORT_VERSION)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	gpmSupport->isSupportedDevice = 0;
	return NVML_SUCCESS;
}

/* ---- modes --------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count,
					 unsigned int *pids)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!count || (*count != 0 && !pids))
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid,
					  nvmlAccountingStats_t *stats)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	(void)pid;
	return stats ? NVML_ERROR_NOT_FOUND : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetAPIRestriction(nvmlDevice_t device, nvmlRestrictedAPI_t apiType,
					 nvmlEnableState_t *isRestricted)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!isRestricted || apiType >= NVML_RESTRICTED_API_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*isRestricted = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}
