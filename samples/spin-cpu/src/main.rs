//! Uses all the CPU it can get and prints once a second how many rounds it made.

use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() {
    println!("spin-cpu: spinning");
    let mut value = 0x9e37_79b9_u64;
    loop {
        let start = Instant::now();
        let mut rounds = 0_u64;
        while start.elapsed() < Duration::from_secs(1) {
            for _ in 0..100_000 {
                value = black_box(value.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(17) ^ 1);
            }
            rounds += 1;
        }
        println!("spin-cpu: {rounds} rounds");
    }
}
