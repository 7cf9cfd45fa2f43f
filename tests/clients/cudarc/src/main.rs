// SPDX-License-Identifier: Apache-2.0
//! A driver-API client in Rust: cudarc finds libcuda by itself, resolves what it needs by dlsym,
//! and keeps its own reference-counted context. Prints one line that the test reads.
//!
//! Without arguments: copies there and back. `fill MIB SECONDS`: takes pieces of MIB from the
//! stream-ordered pool until refused, holds them that long, tells how many and the refusal.

use cudarc::driver::{CudaContext, CudaSlice};
use std::error::Error;
use std::time::Duration;

fn copy() -> Result<(), Box<dyn Error>> {
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

fn fill(piece_mib: usize, seconds: f64) -> Result<(), Box<dyn Error>> {
    let context = CudaContext::new(0)?;
    let stream = context.default_stream();
    let (_, total) = context.mem_get_info()?;
    let mut held: Vec<CudaSlice<u8>> = Vec::new();

    let refused = loop {
        // SAFETY: nobody reads the bytes
        match unsafe { stream.alloc::<u8>(piece_mib << 20) } {
            Ok(piece) => held.push(piece),
            Err(error) => break format!("{:?}", error.0),
        }
    };
    let (free, _) = context.mem_get_info()?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    println!(
        "total={} free={} pieces={} refused={}",
        total,
        free,
        held.len(),
        refused
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [] => copy(),
        [mode, mib, seconds] if mode == "fill" => fill(mib.parse()?, seconds.parse()?),
        _ => Err("usage: tranche-cudarc [fill MIB SECONDS]".into()),
    }
}
