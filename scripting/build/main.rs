//! Builds the Lua that scripts run on: the sources of Lua 5.1 that the `lua-src` crate carries, with our patches.
//!
//! No Lua source stands in this repository. The sources are copied, patched (`patches.rs`) and compiled; a patch whose
//! place is not found as often as it should be fails the build with the name of the file and the reason for the patch.

mod patches;

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{env, fs};

use patches::PATCHES;

/// What of Lua is compiled. What is missing (io, os, debug, package) no script is to reach.
const SOURCES: &[&str] = &[
    "lapi", "lauxlib", "lbaselib", "lcode", "ldebug", "ldo", "ldump", "lfunc", "lgc", "llex", "lmathlib",
    "lmem", "lobject", "lopcodes", "lparser", "lstate", "lstring", "lstrlib", "ltable", "ltablib", "ltm",
    "lundump", "lvm", "lzio",
];

/// Names the folder of the Lua 5.1 sources, where it is not found by itself.
const FOLDER: &str = "MORTISE_LUA_SOURCES";

fn main() {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-env-changed={FOLDER}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = out.join("lua");
    copy(&sources(&out), &target);
    for patch in PATCHES {
        apply(patch, &target);
    }
    compile(&target);
}

/// The folder with the sources that lua-src carries. The crate does not say where it stands, but a panic of its own
/// tells its place, and it panics when asked to build for a target that does not exist.
fn sources(out: &Path) -> PathBuf {
    if let Some(folder) = env::var_os(FOLDER) {
        return folder.into();
    }
    let place = Arc::new(Mutex::new(PathBuf::new()));
    let seen = place.clone();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let (Some(location), Ok(mut seen)) = (info.location(), seen.lock()) {
            *seen = location.file().into();
        }
    }));
    let scratch = out.join("scratch");
    let built =
        panic::catch_unwind(|| lua_src::Build::new().target("none").out_dir(scratch).build(lua_src::Lua51));
    panic::set_hook(hook);
    let place = place.lock().expect("the hook does not panic").clone();
    let folder = place.parent().and_then(Path::parent).map(|root| root.join("lua-5.1.5"));
    match folder {
        Some(folder) if built.is_err() && folder.join("lvm.c").is_file() => folder,
        _ => panic!(
            "the Lua 5.1 sources of the lua-src crate are not found (looked beside {}): set {FOLDER} to their folder",
            place.display()
        ),
    }
}

fn copy(from: &Path, to: &Path) {
    let failed = |what: &Path, error| -> ! { panic!("{}: {error}", what.display()) };
    fs::create_dir_all(to).unwrap_or_else(|error| failed(to, error));
    for entry in fs::read_dir(from).unwrap_or_else(|error| failed(from, error)).flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
            let text = fs::read(&path).unwrap_or_else(|error| failed(&path, error));
            let copy = to.join(entry.file_name());
            fs::write(&copy, text).unwrap_or_else(|error| failed(&copy, error));
        }
    }
}

fn apply(patch: &patches::Patch, folder: &Path) {
    let path = folder.join(patch.file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let found = text.matches(patch.find).count();
    assert!(
        found == patch.times,
        "the patch of {} ({}) does not apply: its place is there {found} times, not {}. The lua-src crate carries \
         other sources than the patches were made for.",
        patch.file,
        patch.why,
        patch.times
    );
    fs::write(&path, text.replace(patch.find, patch.put))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn compile(folder: &Path) {
    let mut build = cc::Build::new();
    build
        .include(folder)
        .warnings(false)
        // Scripts are not slower in a debug build, and the depth of the stack is the same in all.
        .opt_level(2)
        // A run that is ended is unwound, through these frames too.
        .flag_if_supported("-fexceptions")
        // Its integers wrap; the compiler must not think that they cannot.
        .flag_if_supported("-fwrapv");
    for source in SOURCES {
        build.file(folder.join(format!("{source}.c")));
    }
    build.compile("mortise_lua");
    println!("cargo:rustc-link-lib=m");
}
