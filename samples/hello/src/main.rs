//! Says hello and prints its arguments, one line each.

fn main() {
    println!("hello from samara");
    for argument in std::env::args().skip(1) {
        println!("argument: {argument}");
    }
}
