//! What Cargo has to be told of this program: which files it embeds, and in which order the
//! linker places its functions. Neither changes what it does.

#![expect(clippy::disallowed_methods, reason = "Cargo tells a build script in the environment")]

use std::{env, path::Path};

fn main() {
    // The macro that embeds the portal's files knows those that were there when it ran, and
    // would miss one that is added.
    println!("cargo:rerun-if-changed=assets/ui");
    place_functions();
}

/// Has the linker place the functions that run in a waiting gateway together, so that less of
/// the program is in memory (docs/performance.md). GNU's and LLVM's linkers for ELF read such a
/// script; elsewhere, and in builds for development, functions stay where they are.
fn place_functions() {
    const ORDER: &str = "assets/order.ld";
    println!("cargo:rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // A linker chosen by hand that knows no scripts.
    let other = env::var("CARGO_ENCODED_RUSTFLAGS")
        .is_ok_and(|flags| ["mold", "wild"].iter().any(|linker| flags.contains(linker)));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") && !other {
        let order = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(ORDER);
        println!("cargo:rustc-link-arg-bins=-T");
        println!("cargo:rustc-link-arg-bins={}", order.display());
    }
}
