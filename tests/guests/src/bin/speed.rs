//! Computes, and says how many microseconds each kind of work took. The same source is measured natively and as a guest.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let works: [(&str, fn() -> u64); 6] = [
        ("matrix", matrix),
        ("bodies", bodies),
        ("sieve", sieve),
        ("hash", hash),
        ("sort", sort),
        ("words", words),
    ];
    for (name, work) in works {
        let began = Instant::now();
        let result = black_box(work());
        println!("{name} {} {result:x}", began.elapsed().as_micros());
    }
}

/// Numbers that look random, the same on every machine.
struct Numbers(u64);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}

/// Floating point in loops over memory.
fn matrix() -> u64 {
    const N: usize = 320;
    let fill = |seed| Numbers(seed).take(N * N).map(|n| (n % 1000) as f64 / 1000.0).collect::<Vec<f64>>();
    let (a, b) = (fill(1), fill(2));
    let mut c = vec![0.0; N * N];
    for i in 0..N {
        for k in 0..N {
            let factor = a[i * N + k];
            for j in 0..N {
                c[i * N + j] += factor * b[k * N + j];
            }
        }
    }
    c.iter().sum::<f64>().to_bits()
}

/// Floating point in registers: five bodies that attract each other.
fn bodies() -> u64 {
    let mut numbers = Numbers(3).map(|n| (n % 2000) as f64 / 1000.0 - 1.0);
    let mut next = || [numbers.next().unwrap_or(0.5), numbers.next().unwrap_or(0.5), numbers.next().unwrap_or(0.5)];
    let mut bodies: [([f64; 3], [f64; 3]); 5] = std::array::from_fn(|_| (next(), [0.0; 3]));
    for _ in 0..400_000 {
        for i in 0..bodies.len() {
            for j in 0..bodies.len() {
                let distance: [f64; 3] = std::array::from_fn(|axis| bodies[j].0[axis] - bodies[i].0[axis]);
                let square = distance.iter().map(|along| along * along).sum::<f64>() + 0.01;
                let pull = 1e-4 / (square * square.sqrt());
                for (speed, along) in bodies[i].1.iter_mut().zip(distance) {
                    *speed += along * pull;
                }
            }
        }
        for (place, speed) in &mut bodies {
            place.iter_mut().zip(speed).for_each(|(along, speed)| *along += *speed * 1e-3);
        }
    }
    bodies[0].0[0].to_bits()
}

/// Bytes and branches.
fn sieve() -> u64 {
    const MOST: usize = 12_000_000;
    let mut composite = vec![false; MOST];
    let mut count = 0;
    for number in 2..MOST {
        if composite[number] {
            continue;
        }
        count += 1;
        let mut multiple = number.saturating_mul(number);
        while multiple < MOST {
            composite[multiple] = true;
            multiple += number;
        }
    }
    count
}

/// Integers in registers: SHA-256's rounds, over and over.
fn hash() -> u64 {
    const ROUNDS: [u32; 8] =
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5];
    let mut state: [u32; 8] = std::array::from_fn(|index| index as u32 + 1);
    for (index, number) in Numbers(4).take(12_000_000).enumerate() {
        let [a, b, c, d, e, f, g, h] = state;
        let big = |x: u32, [one, two, three]: [u32; 3]| x.rotate_right(one) ^ x.rotate_right(two) ^ x.rotate_right(three);
        let first = h
            .wrapping_add(big(e, [6, 11, 25]))
            .wrapping_add((e & f) ^ (!e & g))
            .wrapping_add(ROUNDS[index % 8])
            .wrapping_add(number as u32);
        let second = big(a, [2, 13, 22]).wrapping_add((a & b) ^ (a & c) ^ (b & c));
        state = [first.wrapping_add(second), a, b, c, d.wrapping_add(first), e, f, g];
    }
    u64::from(state[0])
}

/// Comparisons and moves, and calls of the allocator.
fn sort() -> u64 {
    let mut numbers: Vec<String> = Numbers(5).take(300_000).map(|number| number.to_string()).collect();
    numbers.sort();
    numbers.iter().map(|number| u64::from(number.as_bytes()[0])).sum()
}

/// Strings and a table.
fn words() -> u64 {
    let text: String = Numbers(6).take(1_000_000).map(|number| format!("w{} ", number % 5000)).collect();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    counts.values().copied().max().unwrap_or(0)
}
