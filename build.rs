//! Tells Cargo that the portal's files are part of the program: the macro that embeds them
//! knows those that were there when it ran, and would miss one that is added.

fn main() {
    println!("cargo:rerun-if-changed=assets/ui");
}
