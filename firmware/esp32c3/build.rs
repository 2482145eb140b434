//! Links the image as the chip's crates ask for it.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Tlinkall.x");
}
