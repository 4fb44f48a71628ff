//! The workloads, as rows.

/// What is measured under one name.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The name, as in `--only`; a pipeline is appended to it.
    pub name: &'static str,
    /// What is done.
    pub kind: Kind,
    /// What the server holds before.
    pub data: Data,
    /// How many requests are sent at once; each makes a case of its own.
    pub pipelines: &'static [usize],
}

/// How a workload is run.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A command in a closed loop.
    Closed(&'static str),
    /// A command in an open loop, at half of what the first server does in a closed loop.
    Open(&'static str),
    /// PUBLISH to so many subscribers, while so many patterns are subscribed to that do not match.
    Fanout {
        /// Who receives.
        subscribers: usize,
        /// What does not match.
        patterns: usize,
    },
    /// A module's command, beside a core command that does as much.
    Module {
        /// The module's.
        command: &'static str,
        /// The core's.
        equal: &'static str,
    },
    /// Resident bytes per key.
    Memory,
    /// The longest stall while the table grows.
    Growth,
}

/// What a server holds before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing; each run begins empty.
    Empty,
    /// Strings of 64 bytes under the keys that `__rand__` names.
    Strings,
}

/// What fills a server with strings.
pub const FILL: &str = "SET key:__seq__ __x64__";

const ALL: &[usize] = &[1, 16, 100];
const TWO: &[usize] = &[1, 16];
const ONE: &[usize] = &[1];

/// Ten keys, ten values.
const MSET: &str = "MSET key:__rand__ __x64__ key:__rand__ __x64__ key:__rand__ __x64__ key:__rand__ __x64__ \
    key:__rand__ __x64__ key:__rand__ __x64__ key:__rand__ __x64__ key:__rand__ __x64__ key:__rand__ __x64__ \
    key:__rand__ __x64__";

/// A limit that a key does not reach, and whose state outlives the run.
const THROTTLE: &str = "CL.THROTTLE limit:__rand__ 1000 1000 86400";

/// Every workload, in the order in which they run.
pub const WORKLOADS: &[Workload] = &[
    closed("ping", "PING", Data::Strings, ALL),
    closed("set", "SET key:__rand__ __x64__", Data::Strings, ALL),
    closed("get", "GET key:__rand__", Data::Strings, ALL),
    closed("mset10", MSET, Data::Strings, ALL),
    Workload {
        name: "open_set",
        kind: Kind::Open("SET key:__rand__ __x64__"),
        data: Data::Strings,
        pipelines: ONE,
    },
    Workload { name: "open_get", kind: Kind::Open("GET key:__rand__"), data: Data::Strings, pipelines: ONE },
    closed("incr", "INCR counter:__rand__", Data::Empty, ALL),
    closed("hset", "HSET myhash element:__rand__ __x64__", Data::Empty, ALL),
    closed("zadd", "ZADD myzset __rand__ element:__rand__", Data::Empty, ALL),
    fanout("publish100", 100, 0),
    fanout("patterns10k", 1, 10_000),
    Workload {
        name: "module",
        kind: Kind::Module { command: "HELLO.GREET world", equal: "ECHO world" },
        data: Data::Empty,
        pipelines: TWO,
    },
    Workload {
        name: "throttle",
        kind: Kind::Module { command: THROTTLE, equal: "SET key:__rand__ __x64__" },
        data: Data::Strings,
        pipelines: TWO,
    },
    Workload { name: "memory", kind: Kind::Memory, data: Data::Empty, pipelines: &[] },
    Workload { name: "growth", kind: Kind::Growth, data: Data::Empty, pipelines: &[] },
];

const fn closed(
    name: &'static str,
    command: &'static str,
    data: Data,
    pipelines: &'static [usize],
) -> Workload {
    Workload { name, kind: Kind::Closed(command), data, pipelines }
}

const fn fanout(name: &'static str, subscribers: usize, patterns: usize) -> Workload {
    Workload { name, kind: Kind::Fanout { subscribers, patterns }, data: Data::Empty, pipelines: TWO }
}

/// A workload at one pipeline.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name with the pipeline: `get_p16`.
    pub name: String,
    /// The row.
    pub workload: Workload,
    /// How many requests are sent at once.
    pub pipeline: usize,
}

/// The cases that are named, or begin with a name and an underscore; all of them if none is named.
pub fn cases(only: &[String]) -> Vec<Case> {
    let all = WORKLOADS.iter().flat_map(|&workload| {
        let one =
            workload.pipelines.is_empty().then(|| Case { name: workload.name.into(), workload, pipeline: 1 });
        let many = workload.pipelines.iter().map(move |&pipeline| {
            let name = format!("{}_p{pipeline}", workload.name);
            Case { name, workload, pipeline }
        });
        one.into_iter().chain(many)
    });
    let wanted = |case: &Case| {
        only.is_empty()
            || only.iter().any(|name| case.name.strip_prefix(name.as_str()).is_some_and(is_end_of_name))
    };
    all.filter(wanted).collect()
}

fn is_end_of_name(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Batch;

    #[test]
    fn every_command_can_be_encoded() {
        for workload in WORKLOADS {
            match workload.kind {
                Kind::Closed(command) | Kind::Open(command) => {
                    Batch::new(command, 1).unwrap();
                }
                Kind::Module { command, equal } => {
                    Batch::new(command, 1).unwrap();
                    Batch::new(equal, 1).unwrap();
                }
                Kind::Fanout { .. } | Kind::Memory | Kind::Growth => {}
            }
        }
    }

    #[test]
    fn cases_are_chosen_by_name_or_prefix() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.into()).collect();
            cases(&only).into_iter().map(|case| case.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&["get", "memory"]), ["get_p1", "get_p16", "get_p100", "memory"]);
        assert_eq!(names(&["set_p16", "open"]), ["set_p16", "open_set_p1", "open_get_p1"]);
        assert!(names(&["ge"]).is_empty());
        assert!(names(&[]).len() > 20);
    }
}
