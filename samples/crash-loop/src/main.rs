//! Prints a line and fails, so that its pod ends up in CrashLoopBackOff.

fn main() {
    println!("crash-loop: about to fail");
    eprintln!("crash-loop: failing with exit code 1");
    std::process::exit(1);
}
