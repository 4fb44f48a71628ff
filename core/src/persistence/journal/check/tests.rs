//! What is said of journals, whole and broken.

use super::super::super::disk::MemoryDisk;
use super::*;

const SELECT: &str = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
const SET: &str = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
const MULTI: &str = "*1\r\n$5\r\nMULTI\r\n";
const EXEC: &str = "*1\r\n$4\r\nexec\r\n";
const MANIFEST: &str = "file a.1.base.aof seq 1 type b\nfile a.1.incr.aof seq 1 type i\n";

fn disk(files: &[(&str, &str)]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    files.iter().for_each(|(name, text)| disk.put(name, text.as_bytes().to_vec()));
    disk
}

/// What it says, and whether all is well.
fn said(disk: &MemoryDisk, arguments: &[&str], answer: &str) -> (String, bool) {
    let arguments: Vec<_> = arguments.iter().map(PathBuf::from).collect();
    let mut out = Vec::new();
    let is_ok = check(&arguments, disk, 0, &mut out, &mut answer.as_bytes()).unwrap();
    (String::from_utf8(out).unwrap(), is_ok)
}

#[test]
fn what_is_said_of_a_file() {
    let whole = [SELECT, SET].concat();
    for (tail, says) in [
        ("", "AOF analyzed: filename=f, size=50, ok_up_to=50, ok_up_to_line=13, diff=0\nAOF f is valid\n"),
        (
            "*0\r\n#x",
            "AOF analyzed: filename=f, size=56, ok_up_to=56, ok_up_to_line=14, diff=0\nAOF f is valid\n",
        ),
        (
            &SET[..24],
            "0x              4a: Expected to read 3 bytes, got 0 bytes\nAOF analyzed: filename=f, size=74, ok_up_to=50, ok_up_to_line=19, diff=24\n",
        ),
        (
            &[MULTI, SET].concat(),
            "0x              59: Reached EOF before reading EXEC for MULTI\nAOF analyzed: filename=f, size=92, ok_up_to=50, ok_up_to_line=23, diff=42\n",
        ),
        (
            &[MULTI, MULTI].concat(),
            "0x              49: Unexpected MULTI in AOF f\nAOF analyzed: filename=f, size=80, ok_up_to=50, ok_up_to_line=19, diff=30\n",
        ),
        (
            EXEC,
            "0x              3a: Unexpected EXEC in AOF f\nAOF analyzed: filename=f, size=64, ok_up_to=50, ok_up_to_line=16, diff=14\n",
        ),
        (
            "!x\r\n",
            "AOF f format error\nAOF analyzed: filename=f, size=54, ok_up_to=50, ok_up_to_line=13, diff=4\n",
        ),
        (
            "*x\r\n",
            "0x              32: Expected \\r\\n, got: 780d\nAOF analyzed: filename=f, size=54, ok_up_to=50, ok_up_to_line=13, diff=4\n",
        ),
        (
            "*1\r\n:1\r\n",
            "0x              36: Expected prefix '$', got: ':'\nAOF analyzed: filename=f, size=58, ok_up_to=50, ok_up_to_line=14, diff=8\n",
        ),
        (
            "*1\r\n$-1\r\n",
            "0x              36: Expected to read string of -1 bytes, which is not in the suitable range\nAOF analyzed: filename=f, size=59, ok_up_to=50, ok_up_to_line=15, diff=9\n",
        ),
        (
            "*1\r\n$9223372036854775807\r\n",
            "0x              36: Expected to read string of 9223372036854775807 bytes, which is not in the suitable range\nAOF analyzed: filename=f, size=76, ok_up_to=50, ok_up_to_line=15, diff=26\n",
        ),
        (
            "*1\r\n$1\r\nxyz",
            "0x              3a: Expected \\r\\n, got: 797a\nAOF analyzed: filename=f, size=61, ok_up_to=50, ok_up_to_line=15, diff=11\n",
        ),
    ] {
        let text = [&whole, tail].concat();
        let (said, is_ok) = said(&disk(&[("f", &text)]), &["f"], "");
        let expected = format!("Start checking Old-Style AOF\n{says}");
        assert!(said.starts_with(&expected), "{said}\n{expected}");
        assert_eq!(is_ok, says.ends_with("is valid\n"));
        assert_eq!(!is_ok, said.ends_with("AOF f is not valid. Use the --fix option to try fixing it.\n"));
    }
    assert_eq!(
        said(&disk(&[("f", "")]), &["f"], ""),
        ("Start checking Old-Style AOF\nAOF f is empty\n".into(), true)
    );
    for arguments in [&[][..], &["--mend", "f"], &["--fix", "f", "g"], &["a", "b", "c", "d"]] {
        assert_eq!(said(&disk(&[]), arguments, ""), (USAGE.to_owned(), false));
    }
    assert_eq!(
        said(&disk(&[]), &["f"], ""),
        ("Cannot open file f: No such file or directory\n".into(), false)
    );
}

#[test]
fn what_is_damaged_is_cut_off_if_that_is_wanted() {
    let text = [SELECT, SET, MULTI, SET].concat();
    for (answer, is_cut) in [("y\n", true), ("Yes\n", true), ("n\n", false), ("", false)] {
        let disk = disk(&[("f", &text)]);
        let (said, is_ok) = said(&disk, &["--fix", "f"], answer);
        let end = if is_cut { "Successfully truncated AOF f\n" } else { "Aborting...\n" };
        let asks = "This will shrink the AOF f from 92 bytes, with 42 bytes, to 50 bytes\nContinue? [y/N]: ";
        assert!(said.ends_with(&format!("{asks}{end}")), "{said}");
        assert_eq!((disk.read("f").unwrap().len(), is_ok), (if is_cut { 50 } else { 92 }, is_cut));
    }
}

#[test]
fn all_parts_are_looked_at() {
    let (whole, half) = ([SELECT, SET].concat(), [SELECT, &SET[..24]].concat());
    let cut = "0x              2f: Expected to read 3 bytes, got 0 bytes\nAOF analyzed: filename=";
    for (base, increment, option, says, is_ok) in [
        (
            &whole,
            &whole,
            None,
            "AOF analyzed: filename=a.1.base.aof, size=50, ok_up_to=50, ok_up_to_line=13, diff=0\n\
             BASE AOF a.1.base.aof is valid\nStart to check INCR files.\n\
             AOF analyzed: filename=a.1.incr.aof, size=50, ok_up_to=50, ok_up_to_line=25, diff=0\n\
             INCR AOF a.1.incr.aof is valid\nAll AOF files and manifest are valid\n"
                .to_owned(),
            true,
        ),
        (
            &String::new(),
            &half,
            Some("--fix"),
            format!(
                "BASE AOF a.1.base.aof is empty\nStart to check INCR files.\n\
                 {cut}a.1.incr.aof, size=47, ok_up_to=23, ok_up_to_line=12, diff=24\n\
                 This will shrink the AOF a.1.incr.aof from 47 bytes, with 24 bytes, to 23 bytes\n\
                 Continue? [y/N]: Successfully truncated AOF a.1.incr.aof\nAll AOF files and manifest are valid\n"
            ),
            true,
        ),
        (
            &half,
            &whole,
            Some("--fix"),
            format!(
                "{cut}a.1.base.aof, size=47, ok_up_to=23, ok_up_to_line=12, diff=24\n\
                 Failed to truncate AOF a.1.base.aof because it is not the last file\n"
            ),
            false,
        ),
    ] {
        let disk = disk(&[("d/m", MANIFEST), ("d/a.1.base.aof", base), ("d/a.1.incr.aof", increment)]);
        let arguments: Vec<_> = option.into_iter().chain(["d/m"]).collect();
        let begin = "Start checking Multi Part AOF\nStart to check BASE AOF (RESP format).\n";
        assert_eq!(said(&disk, &arguments, "y\n"), (format!("{begin}{says}"), is_ok));
    }
    let missing = disk(&[("m", MANIFEST), ("./a.1.base.aof", "")]);
    let (said, is_ok) = said(&missing, &["m"], "");
    assert!(
        !is_ok && said.ends_with("Cannot open file ./a.1.incr.aof: No such file or directory, aborting...\n"),
        "{said}"
    );
}

#[test]
fn what_happened_too_late_is_cut_off() {
    let text = ["#TS:100\r\n", SET, "#TS:105\r\n", SET, "#TS:x\r\n"].concat();
    let begin = "Start checking Old-Style AOF\n";
    for (moment, says, len) in [
        ("99", "AOF f has nothing before timestamp 99, aborting...\n", None),
        ("100", "Successfully truncated AOF f to timestamp 100\n", Some(36)),
        ("104", "Successfully truncated AOF f to timestamp 104\n", Some(36)),
        ("105", "Invalid timestamp annotation\n", None),
    ] {
        let disk = disk(&[("f", &text)]);
        let (said, is_ok) = said(&disk, &["--truncate-to-timestamp", moment, "f"], "");
        assert_eq!((said, is_ok), (format!("{begin}{says}"), len.is_some()));
        assert_eq!(disk.read("f").unwrap().len(), len.unwrap_or(text.len()));
    }
    let disk =
        disk(&[("f", &text[..36]), ("d/m", MANIFEST), ("d/a.1.base.aof", &text), ("d/a.1.incr.aof", SET)]);
    let cuts = |moment, path| said(&disk, &["--truncate-to-timestamp", moment, path], "");
    let nothing = "Truncate nothing in AOF f to timestamp 105\nAOF f is valid\n";
    assert_eq!(cuts("105", "f"), (format!("{begin}{nothing}"), true));
    for moment in ["1x", "99999999999999999999"] {
        assert_eq!(cuts(moment, "f"), ("Invalid timestamp, aborting...\n".to_owned(), false));
    }
    let (said, is_ok) = cuts("100", "d/m");
    let refusal = "Failed to truncate AOF d/a.1.base.aof to timestamp 100 to offset 36 because it is not the last file.\n";
    assert!(!is_ok && said.contains(refusal), "{said}");
}
