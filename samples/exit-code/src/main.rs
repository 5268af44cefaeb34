//! Ends with the exit code of its first argument, else of `$EXIT_CODE`, else 0. `trap` traps.

use std::{env, process};

fn main() {
    let wish = env::args().nth(1).or_else(|| env::var("EXIT_CODE").ok());
    let wish = wish.unwrap_or_else(|| "0".to_owned());
    if wish == "trap" {
        println!("exit-code: trapping");
        process::abort();
    }
    match wish.parse::<i32>() {
        Ok(code) => {
            println!("exit-code: {code}");
            process::exit(code);
        }
        Err(error) => {
            eprintln!("exit-code: `{wish}` is not an exit code: {error}");
            process::exit(2);
        }
    }
}
