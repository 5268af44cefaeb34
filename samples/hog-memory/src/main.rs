//! Takes memory MiB by MiB and touches every page of it, until it is ended.
//! With an argument: takes so many MiB, then holds them and sleeps.

use std::hint::black_box;
use std::time::Duration;
use std::{env, process};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

fn main() {
    let limit = match env::args().nth(1).map(|argument| argument.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(error)) => {
            eprintln!("hog-memory: the argument must be a number of MiB: {error}");
            process::exit(2);
        }
    };
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while taken.len() < limit {
        let mut block = Vec::new();
        if block.try_reserve_exact(MIB).is_err() {
            eprintln!("hog-memory: no more after {} MiB", taken.len());
            process::exit(1);
        }
        block.resize(MIB, 0_u8);
        for byte in block.iter_mut().step_by(PAGE) {
            *byte = black_box(1);
        }
        taken.push(block);
        if taken.len().is_multiple_of(16) {
            println!("hog-memory: {} MiB", taken.len());
        }
    }
    println!("hog-memory: holding {} MiB", taken.len());
    loop {
        std::thread::sleep(Duration::from_secs(3600));
        black_box(&taken);
    }
}
