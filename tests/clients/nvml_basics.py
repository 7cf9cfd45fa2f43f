#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nvidia-ml-py, NVIDIA's own binding, reads all that monitoring programs read of every device,
and prints it as JSON. What a board does not have is null; any other error ends the program.
"""

import json

import pynvml as n


def optional(function, *args):
    try:
        return function(*args)
    except n.NVMLError_NotSupported:
        return None


def processes(function, device):
    return [{"pid": p.pid, "bytes": p.usedGpuMemory} for p in function(device)]


def utilization(device):
    """Per process: an idle device has no samples, which the binding raises as 'not found'."""
    try:
        return [s.pid for s in n.nvmlDeviceGetProcessUtilization(device, 0)]
    except n.NVMLError_NotFound:
        return []


def read_device(index):
    device = n.nvmlDeviceGetHandleByIndex(index)
    uuid = n.nvmlDeviceGetUUID(device)
    pci = n.nvmlDeviceGetPciInfo(device)
    assert n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(uuid)) == index
    assert n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(pci.busId)) == index
    one, two = n.nvmlDeviceGetMemoryInfo(device), n.nvmlDeviceGetMemoryInfo(device, version=n.nvmlMemory_v2)
    assert one.total == two.total == two.reserved + two.used + two.free
    assert one.free == two.free and one.used == two.used + two.reserved
    clocks = {}
    for name in ("GRAPHICS", "SM", "MEM", "VIDEO"):
        kind = getattr(n, f"NVML_CLOCK_{name}")
        clocks[name.lower()] = [n.nvmlDeviceGetClockInfo(device, kind), n.nvmlDeviceGetMaxClockInfo(device, kind)]
    return {
        "name": n.nvmlDeviceGetName(device), "uuid": uuid, "serial": optional(n.nvmlDeviceGetSerial, device),
        "bus_id": pci.busId, "minor": n.nvmlDeviceGetMinorNumber(device),
        "brand": n.nvmlDeviceGetBrand(device), "architecture": n.nvmlDeviceGetArchitecture(device),
        "cc": n.nvmlDeviceGetCudaComputeCapability(device), "cores": n.nvmlDeviceGetNumGpuCores(device),
        "part": optional(n.nvmlDeviceGetBoardPartNumber, device), "vbios": n.nvmlDeviceGetVbiosVersion(device),
        "total": two.total, "reserved": two.reserved, "used": two.used, "free": two.free,
        "bar1": n.nvmlDeviceGetBAR1MemoryInfo(device).bar1Total,
        "compute": processes(n.nvmlDeviceGetComputeRunningProcesses, device),
        "compute_v2": processes(n.nvmlDeviceGetComputeRunningProcesses_v2, device),
        "graphics": processes(n.nvmlDeviceGetGraphicsRunningProcesses, device),
        "mps": processes(n.nvmlDeviceGetMPSComputeRunningProcesses, device),
        "process_utilization": utilization(device),
        "gpu_percent": n.nvmlDeviceGetUtilizationRates(device).gpu,
        "celsius": n.nvmlDeviceGetTemperature(device, n.NVML_TEMPERATURE_GPU),
        "celsius_slowdown": n.nvmlDeviceGetTemperatureThreshold(device, n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
        "fan_percent": optional(n.nvmlDeviceGetFanSpeed, device),
        "power_mw": n.nvmlDeviceGetPowerUsage(device), "limit_mw": n.nvmlDeviceGetEnforcedPowerLimit(device),
        "energy_mj": n.nvmlDeviceGetTotalEnergyConsumption(device), "clocks": clocks,
        "pstate": n.nvmlDeviceGetPerformanceState(device),
        "pcie": [n.nvmlDeviceGetCurrPcieLinkGeneration(device), n.nvmlDeviceGetCurrPcieLinkWidth(device)],
        "pcie_rx": n.nvmlDeviceGetPcieThroughput(device, n.NVML_PCIE_UTIL_RX_BYTES),
        "ecc": optional(n.nvmlDeviceGetEccMode, device), "mig": optional(n.nvmlDeviceGetMigMode, device),
        "ecc_errors": optional(n.nvmlDeviceGetTotalEccErrors, device, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                               n.NVML_VOLATILE_ECC),
        "compute_mode": n.nvmlDeviceGetComputeMode(device),
        "persistence": n.nvmlDeviceGetPersistenceMode(device),
        "display": n.nvmlDeviceGetDisplayActive(device), "numa": optional(n.nvmlDeviceGetNumaNodeId, device),
        "cpus": [w for w in n.nvmlDeviceGetCpuAffinity(device, 16)],
        "encoder": n.nvmlDeviceGetEncoderUtilization(device), "decoder": n.nvmlDeviceGetDecoderUtilization(device),
        "accounting": n.nvmlDeviceGetAccountingMode(device),
        "nvlink": optional(n.nvmlDeviceGetNvLinkState, device, 0),
        "fields": [v.nvmlReturn for v in n.nvmlDeviceGetFieldValues(device, [n.NVML_FI_DEV_POWER_INSTANT])],
    }


def main():
    n.nvmlInit()
    count = n.nvmlDeviceGetCount()
    devices = [read_device(i) for i in range(count)]
    near = [[n.nvmlDeviceGetTopologyCommonAncestor(n.nvmlDeviceGetHandleByIndex(i), n.nvmlDeviceGetHandleByIndex(j))
             for j in range(count)] for i in range(count)]
    print(json.dumps({
        "driver": n.nvmlSystemGetDriverVersion(), "nvml": n.nvmlSystemGetNVMLVersion(),
        "cuda": n.nvmlSystemGetCudaDriverVersion(), "topology": near, "devices": devices,
    }))
    n.nvmlShutdown()


main()
