//! The configuration file: any text is understood or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mortise_core::server::Settings;

fuzz_target!(|text: &str| {
    // An include would read this machine's files.
    if !text.to_ascii_lowercase().contains("include") {
        let _ = Settings::parse(text);
    }
});
