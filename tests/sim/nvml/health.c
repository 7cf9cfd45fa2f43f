/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/*
 * Memory errors and XIDs: those that were asked for (rm_state_set). And the field values: the
 * same numbers as elsewhere, asked for many at a time.
 */

/* ---- memory errors ------------------------------------------------------------------- */

static uint64_t errors(const struct nv_device *dev, nvmlMemoryErrorType_t type)
{
	return rm_state(dev->index, type == NVML_MEMORY_ERROR_TYPE_CORRECTED
					    ? RM_ECC_CORRECTED
					    : RM_ECC_UNCORRECTED);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device,
					 nvmlMemoryErrorType_t errorType,
					 nvmlEccCounterType_t counterType,
					 unsigned long long *eccCounts)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!eccCounts || errorType >= NVML_MEMORY_ERROR_TYPE_COUNT ||
	    counterType >= NVML_ECC_COUNTER_TYPE_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.board->has_ecc)
		return NVML_ERROR_NOT_SUPPORTED;
	*eccCounts = errors(&dev, errorType);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device,
					    nvmlMemoryErrorType_t errorType,
					    nvmlEccCounterType_t counterType,
					    nvmlEccErrorCounts_t *eccCounts)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!eccCounts || errorType >= NVML_MEMORY_ERROR_TYPE_COUNT ||
	    counterType >= NVML_ECC_COUNTER_TYPE_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.board->has_ecc)
		return NVML_ERROR_NOT_SUPPORTED;
	*eccCounts = (nvmlEccErrorCounts_t){ .deviceMemory = errors(&dev, errorType) };
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device,
					     nvmlMemoryErrorType_t errorType,
					     nvmlEccCounterType_t counterType,
					     nvmlMemoryLocation_t locationType,
					     unsigned long long *count)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!count || errorType >= NVML_MEMORY_ERROR_TYPE_COUNT ||
	    counterType >= NVML_ECC_COUNTER_TYPE_COUNT ||
	    locationType >= NVML_MEMORY_LOCATION_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.board->has_ecc || (locationType != NVML_MEMORY_LOCATION_DRAM &&
				    locationType != NVML_MEMORY_LOCATION_SRAM))
		return NVML_ERROR_NOT_SUPPORTED;
	*count = locationType == NVML_MEMORY_LOCATION_DRAM ? errors(&dev, errorType) : 0;
	return NVML_SUCCESS;
}

/* Pages are retired up to Turing; from Ampere on rows are remapped instead. */
nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
				       unsigned int *pageCount,
				       unsigned long long *addresses)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!pageCount || cause >= NVML_PAGE_RETIREMENT_CAUSE_COUNT ||
	    (*pageCount != 0 && !addresses))
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.board->has_ecc || dev.facts->cc_major >= 8)
		return NVML_ERROR_NOT_SUPPORTED;
	*pageCount = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrRows,
				       unsigned int *uncRows, unsigned int *isPending,
				       unsigned int *failureOccurred)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!corrRows || !uncRows || !isPending || !failureOccurred)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.board->has_ecc || dev.facts->cc_major < 8)
		return NVML_ERROR_NOT_SUPPORTED;
	*corrRows = *uncRows = *isPending = 0;
	*failureOccurred = rm_state(dev.index, RM_ROW_FAILURE) != 0;
	return NVML_SUCCESS;
}

/* ---- events -------------------------------------------------------------------------- */

struct nvmlEventSet_st {
	struct nvmlEventSet_st *next;
	unsigned long long types[RM_DEVICES_MAX]; /* registered for */
	uint64_t seen;                            /* XIDs of the machine */
};

static pthread_mutex_t sets_lock = PTHREAD_MUTEX_INITIALIZER;
static struct nvmlEventSet_st *sets;

#define SUPPORTED_EVENTS                                                  \
	(nvmlEventTypeXidCriticalError | nvmlEventTypeSingleBitEccError | \
	 nvmlEventTypeDoubleBitEccError | nvmlEventTypeClock)

static bool is_set(nvmlEventSet_t set)
{
	bool found = false;

	pthread_mutex_lock(&sets_lock);
	for (struct nvmlEventSet_st *s = sets; s && !found; s = s->next)
		found = s == set;
	pthread_mutex_unlock(&sets_lock);
	return set && found;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
	struct nvmlEventSet_st *made;

	NV_ENTER();
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	made = calloc(1, sizeof(*made));
	if (!made)
		return NVML_ERROR_MEMORY;
	made->seen = rm_xid_count();
	pthread_mutex_lock(&sets_lock);
	made->next = sets;
	sets = made;
	pthread_mutex_unlock(&sets_lock);
	*set = made;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
	struct nvmlEventSet_st **at;

	NV_ENTER();
	pthread_mutex_lock(&sets_lock);
	for (at = &sets; *at && *at != set; at = &(*at)->next)
		;
	if (set && *at)
		*at = set->next;
	else
		set = NULL;
	pthread_mutex_unlock(&sets_lock);
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	free(set);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device,
					      unsigned long long *eventTypes)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!eventTypes)
		return NVML_ERROR_INVALID_ARGUMENT;
	*eventTypes = (unsigned long long)SUPPORTED_EVENTS;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long eventTypes,
				      nvmlEventSet_t set)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!is_set(set))
		return NVML_ERROR_INVALID_ARGUMENT;
	if (eventTypes & ~(unsigned long long)SUPPORTED_EVENTS)
		return NVML_ERROR_NOT_SUPPORTED;
	set->types[dev.index] |= eventTypes;
	return NVML_SUCCESS;
}

static bool take_event(nvmlEventSet_t set, nvmlEventData_t *event)
{
	struct rm_xid xid;

	while (rm_xid_next(&set->seen, &xid)) {
		if (!(set->types[xid.device] & nvmlEventTypeXidCriticalError))
			continue;
		*event = (nvmlEventData_t){
			.device = nv_handle(xid.device),
			.eventType = nvmlEventTypeXidCriticalError,
			.eventData = xid.xid,
			.gpuInstanceId = UINT32_MAX,
			.computeInstanceId = UINT32_MAX,
		};
		return true;
	}
	return false;
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static nvmlReturn_t wait_for(nvmlEventSet_t set, nvmlEventData_t *event,
			     unsigned int timeout_ms)
{
	const struct timespec step = { .tv_nsec = 2000000 };
	uint64_t until_ns = monotonic_ns() + (uint64_t)timeout_ms * 1000000u;

	if (!is_set(set) || !event)
		return NVML_ERROR_INVALID_ARGUMENT;
	while (!take_event(set, event)) {
		if (monotonic_ns() >= until_ns)
			return NVML_ERROR_TIMEOUT;
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data,
			      unsigned int timeoutms)
{
	NV_ENTER();
	return wait_for(set, data, timeoutms);
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data,
				 unsigned int timeoutms)
{
	NV_ENTER();
	return wait_for(set, data, timeoutms);
}

/* ---- field values -------------------------------------------------------------------- */

static void put_uint(nvmlFieldValue_t *v, unsigned int value)
{
	v->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
	v->value.uiVal = value;
	v->nvmlReturn = NVML_SUCCESS;
}

static void put_u64(nvmlFieldValue_t *v, bool is_there, unsigned long long value)
{
	if (!is_there)
		return;
	v->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
	v->value.ullVal = value;
	v->nvmlReturn = NVML_SUCCESS;
}

/* One value; NOT_SUPPORTED, as it stands on entry, for everything that this board lacks. */
static void put_field(const struct nv_device *dev, nvmlFieldValue_t *v)
{
	switch (v->fieldId) {
	case NVML_FI_DEV_ECC_CURRENT:
	case NVML_FI_DEV_ECC_PENDING:
		if (dev->board->has_ecc)
			put_uint(v, NVML_FEATURE_ENABLED);
		break;
	case NVML_FI_DEV_ECC_SBE_VOL_TOTAL:
	case NVML_FI_DEV_ECC_SBE_AGG_TOTAL:
		put_u64(v, dev->board->has_ecc,
			errors(dev, NVML_MEMORY_ERROR_TYPE_CORRECTED));
		break;
	case NVML_FI_DEV_ECC_DBE_VOL_TOTAL:
	case NVML_FI_DEV_ECC_DBE_AGG_TOTAL:
		put_u64(v, dev->board->has_ecc,
			errors(dev, NVML_MEMORY_ERROR_TYPE_UNCORRECTED));
		break;
	case NVML_FI_DEV_GET_GPU_RECOVERY_ACTION:
		put_uint(v, (unsigned int)rm_state(dev->index, RM_RECOVERY));
		break;
	case NVML_FI_DEV_MEMORY_TEMP:
		if (dev->board->has_memory_sensor)
			put_uint(v, dev->board->idle_celsius + 9);
		break;
	case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
	case NVML_FI_DEV_ENERGY:
		put_u64(v, true, nv_energy_mj(dev));
		break;
	case NVML_FI_DEV_NVLINK_LINK_COUNT:
		put_uint(v, dev->facts->has_nvlink ? dev->board->nvlinks : 0);
		break;
	case NVML_FI_DEV_PCIE_REPLAY_COUNTER:
	case NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER:
		put_uint(v, 0);
		break;
	case NVML_FI_DEV_POWER_AVERAGE:
	case NVML_FI_DEV_POWER_INSTANT:
		put_uint(v, nv_power_mw(dev));
		break;
	case NVML_FI_DEV_POWER_MIN_LIMIT:
		put_uint(v, dev->board->power_min_mw);
		break;
	case NVML_FI_DEV_POWER_MAX_LIMIT:
	case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
	case NVML_FI_DEV_POWER_CURRENT_LIMIT:
	case NVML_FI_DEV_POWER_REQUESTED_LIMIT:
		put_uint(v, dev->facts->power_limit_mw);
		break;
	default:
		break;
	}
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int valuesCount,
				      nvmlFieldValue_t *values)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (valuesCount <= 0 || !values)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (int i = 0; i < valuesCount; i++) {
		values[i].timestamp = (long long)nv_now_us();
		values[i].latencyUsec = 0;
		values[i].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
		put_field(&dev, &values[i]);
	}
	return NVML_SUCCESS;
}
