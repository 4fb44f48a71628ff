//! MODULE: LOAD, LOADEX, UNLOAD, LIST.

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::error::{Error, Result};

use super::{Setting, Value};
use crate::engine::call::Call;
use crate::features::{Command, container};

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[MODULE_CONTAINER, MODULE_LIST, MODULE_LOAD, MODULE_LOADEX, MODULE_UNLOAD, MODULE_HELP];

const MODULE_CONTAINER: Command = Spec {
    usage: "MODULE",
    about: "Commands about loaded modules.",
    since: "4.0.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..SERVER
}
.runs(container);

const MODULE_LIST: Command = Spec {
    usage: "MODULE LIST",
    about: "Lists the modules that are loaded.",
    since: "4.0.0",
    cost: "O(N), N being the modules",
    flags: &[ADMIN, NOSCRIPT],
    tips: &["nondeterministic_output_order"],
    ..SERVER
}
.runs(module_list);

const MODULE_LOAD: Command = Spec {
    usage: "MODULE LOAD path [arg...]",
    about: "Loads a module from a file.",
    since: "4.0.0",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NEEDS_MODULE],
    ..SERVER
}
.runs(module_load);

const MODULE_LOADEX: Command = Spec {
    usage: "MODULE LOADEX path [CONFIG configs=<name value>]... [ARGS args=<arg>...]",
    about: "Loads a module from a file, with directives.",
    since: "7.0.0",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NEEDS_MODULE],
    ..SERVER
}
.runs(module_loadex);

const MODULE_UNLOAD: Command = Spec {
    usage: "MODULE UNLOAD name",
    about: "Unloads a module.",
    since: "4.0.0",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NEEDS_MODULE],
    ..SERVER
}
.runs(module_unload);

const MODULE_HELP: Command = Spec {
    usage: "MODULE HELP",
    about: "Lists the subcommands of MODULE.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    ..SERVER
}
.runs(module_help);

fn module_list(call: &mut Call<'_>) -> Result {
    let Call { engine, .. } = call;
    let modules: Vec<_> = engine.modules.iter().cloned().collect();
    let out = call.out();
    out.array(modules.len());
    for module in modules {
        out.map(4);
        out.bulk(b"name");
        out.bulk(module.name.as_bytes());
        out.bulk(b"ver");
        out.integer(module.version);
        out.bulk(b"path");
        out.bulk(module.path.as_bytes());
        out.bulk(b"args");
        out.array(module.args.len());
        module.args.iter().for_each(|arg| out.bulk(arg));
    }
    Ok(())
}

fn module_load(call: &mut Call<'_>) -> Result {
    let args: Vec<_> = call.args().iter().skip(3).collect();
    load(call, &args, &[])
}

fn module_loadex(call: &mut Call<'_>) -> Result {
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let mut settings: Vec<Setting> = Vec::new();
    let mut args: Vec<&[u8]> = Vec::new();
    let mut options = call.options(3);
    while let Some(word) = options.next() {
        if word.eq_ignore_ascii_case(b"CONFIG") {
            let (Some(name), Some(value)) = (options.next(), options.next()) else {
                return Err(refused("CONFIG stands without a name and a value"));
            };
            // Of several values for one name the last counts.
            let name = text(name);
            settings.retain(|known| !known.name.eq_ignore_ascii_case(&name));
            settings.push(Setting { name, value: Value::Whole(text(value)) });
        } else if word.eq_ignore_ascii_case(b"ARGS") {
            args = options.by_ref().collect();
        } else {
            return Err(refused(&format!("Syntax error around '{}'", text(word))));
        }
    }
    load(call, &args, &settings)
}

fn load(call: &mut Call<'_>, args: &[&[u8]], settings: &[Setting]) -> Result {
    let path = std::str::from_utf8(call.arg(2)).map_err(|_| refused("The path is not valid UTF-8"))?;
    super::load(call.engine, path, args, settings).map_err(|super::Refusal { reason, .. }| {
        tracing::warn!("Module {path} failed to load: {reason}");
        refused(&reason)
    })?;
    call.ok()
}

/// Redis's words, and then why.
fn refused(reason: &str) -> Error {
    Error::text(format!("ERR Error loading the extension. {reason}."))
}

fn module_unload(call: &mut Call<'_>) -> Result {
    let name = String::from_utf8_lossy(call.arg(2));
    super::unload(call.engine, &name)
        .map_err(|reason| Error::text(format!("ERR Error unloading module: {reason}")))?;
    call.ok()
}

fn module_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("LIST", "Return a list of loaded modules."),
        ("LOAD <path> [<arg> ...]", "Load a module library from <path>, passing to it any optional arguments."),
        (
            "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
            "Load a module library from <path>, while passing it module configurations and optional arguments.",
        ),
        ("UNLOAD <name>", "Unload a module."),
    ])
}
