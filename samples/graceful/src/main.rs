//! Works in steps of a second. When it is asked to stop it finishes its step, takes `FAREWELL_SECONDS` (default 1) to
//! say farewell, and exits 0. Without the `samara:process/stop` interface it would end at once with 143.

use std::thread::sleep;
use std::time::Duration;

mod host {
    wit_bindgen::generate!({ path: "../../runtime/wit", world: "samara:process/imports", generate_all });
}

use host::samara::process::stop;

fn main() {
    let farewell = std::env::var("FAREWELL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut step = 0;
    while !stop::asked() {
        step += 1;
        println!("step {step}");
        sleep(Duration::from_secs(1));
    }
    let left = Duration::from_nanos(stop::grace_left());
    println!("asked to stop after {step} steps, {} s left", left.as_secs());
    sleep(Duration::from_secs(farewell));
    println!("farewell");
}
