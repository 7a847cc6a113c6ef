//! Holds the code to its layers.
fn main() {}
