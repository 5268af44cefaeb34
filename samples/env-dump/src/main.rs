//! Prints arguments, working directory and environment (sorted), so that a test can compare the whole text.
//! With `--hold` it stays after that.

use std::env;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    for (index, argument) in arguments.iter().enumerate() {
        println!("argument {index}: {argument}");
    }
    match env::current_dir() {
        Ok(directory) => println!("directory: {}", directory.display()),
        Err(error) => println!("directory: {error}"),
    }
    let mut variables: Vec<_> = env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    if arguments.iter().any(|argument| argument == "--hold") {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
}
