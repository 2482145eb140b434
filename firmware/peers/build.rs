//! Links the images by the script next to this file.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-T{directory}/link.x");
    println!("cargo::rerun-if-changed=link.x");
}
