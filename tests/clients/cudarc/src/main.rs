// SPDX-License-Identifier: Apache-2.0
//! A driver-API client in Rust: cudarc finds libcuda by itself, resolves what it needs by dlsym,
//! and keeps its own reference-counted context. Prints one line that the test reads.

use cudarc::driver::CudaContext;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = CudaContext::new(0)?;
    let stream = context.default_stream();
    let sent: Vec<u32> = (0..1 << 20).collect();
    let (free_before, total) = context.mem_get_info()?;

    let on_device = stream.clone_htod(&sent)?;
    let zeros = stream.alloc_zeros::<u64>(1 << 20)?;
    let (free_during, _) = context.mem_get_info()?;
    let received = stream.clone_dtoh(&on_device)?;
    let zeros_received = stream.clone_dtoh(&zeros)?;
    stream.synchronize()?;

    assert_eq!(sent, received, "what came back is not what went");
    assert!(zeros_received.iter().all(|&word| word == 0), "not zeroed");
    assert!(free_during < free_before, "12 MiB were taken and nothing is missing");
    drop(on_device);
    drop(zeros);
    println!(
        "device=\"{}\" devices={} total={} free={} copied=ok",
        context.name()?,
        CudaContext::device_count()?,
        total,
        free_before
    );
    Ok(())
}
