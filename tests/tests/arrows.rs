//! Who may know whom: the arrows between the packages of the workspace, and what they take from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mortise_tests::source;

/// A package, the packages of the workspace that it may depend on, and those from the registry.
struct Arrow {
    package: &'static str,
    folder: &'static str,
    knows: &'static [&'static str],
    takes: &'static [&'static str],
}

const ARROWS: &[Arrow] = &[
    Arrow { package: "mortise-abi", folder: "modules-sdk/abi", knows: &[], takes: &["abi_stable"] },
    Arrow { package: "mortise-sdk", folder: "modules-sdk", knows: &["mortise-abi"], takes: &["bytes"] },
    Arrow { package: "mortise-acl", folder: "acl", knows: &["mortise-sdk"], takes: &["argon2", "sha2"] },
    Arrow { package: "mortise-tls", folder: "tls", knows: &[], takes: &["pkcs8", "rustls"] },
    Arrow {
        package: "mortise-scripting",
        folder: "scripting",
        knows: &["mortise-sdk"],
        // Lua's functions are called as they are, so mlua's own layer is not needed; its sources come with lua-src.
        takes: &["cc", "lua-src", "mlua-sys", "sha1"],
    },
    Arrow {
        package: "mortise-core",
        folder: "core",
        knows: &["mortise-sdk", "mortise-acl", "mortise-tls", "mortise-scripting"],
        takes: &[
            "bytes",
            "corosensei",
            "foldhash",
            "glob",
            "hdrhistogram",
            "jiff",
            "libloading",
            "memchr",
            "nix",
            "parking_lot",
            "quanta",
            "sha1",
            "socket2",
            "tikv-jemalloc-ctl",
            "tikv-jemallocator",
            "tokio",
            "tracing",
            "tracing-subscriber",
            "triomphe",
            "xxhash-rust",
        ],
    },
    Arrow {
        package: "mortise-module-fixtures",
        folder: "tests/fixtures/modules",
        knows: &["mortise-sdk"],
        takes: &[],
    },
    Arrow {
        package: "mortise-tests",
        folder: "tests",
        knows: &["mortise-core", "mortise-sdk"],
        takes: &["rcgen", "rustls"],
    },
    Arrow {
        package: "mortise-benches",
        folder: "benches",
        knows: &["mortise-core", "mortise-sdk"],
        takes: &["hdrhistogram", "lexopt", "mio", "serde_json"],
    },
];

/// What a package's `[dependencies]` and `[build-dependencies]` name. Tests may use what they like.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut in_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let last = section.rsplit('.').next().unwrap_or(section);
            in_dependencies = matches!(last, "dependencies" | "build-dependencies");
            // `[dependencies.name]` is a table of its own.
            let mut parts = section.rsplit('.');
            if let (Some(name), Some("dependencies" | "build-dependencies")) = (parts.next(), parts.next()) {
                found.insert(name.to_string());
            }
        } else if in_dependencies && let Some((name, _)) = line.split_once('=') {
            let name = name.trim().trim_matches('"');
            found.insert(name.split('.').next().unwrap_or(name).to_string());
        }
    }
    found.retain(|name| !name.starts_with('#'));
    found
}

fn package_name(manifest: &str) -> &str {
    let line = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
    line.trim_matches('"')
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_package_keeps_to_its_arrows() {
    let root = source::workspace_root();
    let mut problems = Vec::new();
    for path in source::files(root, "toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let folder = path.parent().and_then(|folder| folder.strip_prefix(root).ok()).unwrap_or(root);
        let folder = folder.to_string_lossy().into_owned();
        let manifest = read(&path);
        if !manifest.contains("[package]") {
            continue;
        }
        let name = package_name(&manifest);
        let dependencies = dependencies(&manifest);
        let ours = |name: &&String| name.starts_with("mortise-");
        if folder.starts_with("modules/") {
            // A module knows the SDK and nothing else of the house; what it takes from outside is its own affair.
            let others = dependencies.iter().filter(ours).filter(|name| *name != "mortise-sdk");
            problems.extend(others.map(|other| format!("{name} (a module) must not know {other}")));
            continue;
        }
        let Some(arrow) = ARROWS.iter().find(|arrow| arrow.folder == folder) else {
            // Fuzz targets stand outside the workspace and reach into what they try.
            if !folder.ends_with("fuzz") {
                problems.push(format!("{folder}: has no arrow"));
            }
            continue;
        };
        if arrow.package != name {
            problems.push(format!("{folder}: is named {name}, not {}", arrow.package));
        }
        for dependency in &dependencies {
            let allowed = if ours(&dependency) { arrow.knows } else { arrow.takes };
            if !allowed.contains(&dependency.as_str()) {
                problems.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn the_arrows_have_no_circle() {
    // Whoever is known must be drawn before: the list itself is an order of building.
    for (index, arrow) in ARROWS.iter().enumerate() {
        for known in arrow.knows {
            let place = ARROWS.iter().position(|other| other.package == *known);
            assert!(
                place.is_some_and(|place| place < index),
                "{} knows {known}, which stands after it",
                arrow.package
            );
        }
    }
}

#[test]
fn manifests_are_read() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\n# c = \"1\"\n\n\
                    [dependencies.d]\nversion = \"1\"\n[dev-dependencies]\ne = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\nf = { version = \"1\" }\n[build-dependencies]\ng = \"1\"\n";
    let found: Vec<_> = dependencies(manifest).into_iter().collect();
    assert_eq!(found, ["a", "b", "d", "f", "g"]);
    assert_eq!(package_name(manifest), "x");
}
