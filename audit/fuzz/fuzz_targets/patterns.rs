//! Any text as a file of patterns, held against any line.
#![no_main]

use bindery_audit::pattern::Patterns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (patterns, line) = input;
    if let Ok(patterns) = Patterns::parse(patterns) {
        let _ = patterns.find(line);
    }
});
