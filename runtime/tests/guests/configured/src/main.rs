//! Prints each key's value, or `-`, and in the end how many keys there are.

wit_bindgen::generate!({
    inline: "
        package wasi:config@0.2.0-rc.1;
        interface store {
            variant error { upstream(string), io(string) }
            get: func(key: string) -> result<option<string>, error>;
            get-all: func() -> result<list<tuple<string, string>>, error>;
        }
        world imports { import store; }
    "
});

use wasi::config::store;

fn main() {
    for key in std::env::args().skip(1) {
        println!("{}", store::get(&key).unwrap().as_deref().unwrap_or("-"));
    }
    println!("{}", store::get_all().unwrap().len());
}
