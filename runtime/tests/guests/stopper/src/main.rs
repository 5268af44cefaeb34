//! `wait`, `subscribe` (components only), `asked` (in a loop) or `ignore`; then it says what was left of the grace period,
//! in whole seconds.

use std::time::Duration;

wit_bindgen::generate!({ path: "../../../wit", world: "samara:process/imports", generate_all });

use samara::process::stop;

fn main() {
    assert!(!stop::asked());
    assert_eq!(stop::grace_left(), u64::MAX);
    #[cfg(target_env = "p2")]
    let asked = stop::subscribe();
    #[cfg(target_env = "p2")]
    assert!(!asked.ready());
    println!("ready");
    match std::env::args().nth(1).unwrap_or_default().as_str() {
        "wait" => {
            let left = stop::wait();
            assert!(stop::grace_left() <= left);
        }
        #[cfg(target_env = "p2")]
        "subscribe" => {
            asked.block();
            assert!(asked.ready());
        }
        "asked" => {
            while !stop::asked() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        _ => std::thread::sleep(Duration::from_secs(3600)),
    }
    println!("{} s left", Duration::from_nanos(stop::grace_left()).as_secs());
}
