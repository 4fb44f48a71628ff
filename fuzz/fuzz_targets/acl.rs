//! Rules and the file of users: any text is answered, and what is accepted is printed so that it is read back.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mortise_acl::{Named, Setting, Table, Users, file};
use mortise_sdk::declare::category;

fuzz_target!(|text: &[u8]| {
    let named = |(index, name, is_subcommand)| Named {
        index,
        name,
        categories: if is_subcommand { category::ADMIN } else { category::FAST.and(category::STRING) },
        from_module: false,
        is_subcommand,
    };
    let commands = [(0, "get", false), (1, "config", false), (2, "config|get", true), (3, "select", false)];
    let table = Arc::new(Table::new(commands.into_iter().map(named)));
    let setting = Setting { table, ..Setting::default() };
    let Ok(read) = file::parse(text, "users.acl", &setting) else { return };
    let mut users = Users::new(setting.clone());
    users.replace(read);
    let printed = file::print(&users);
    let again = file::parse(&printed, "users.acl", &setting).expect("it is read back");
    let mut others = Users::new(setting);
    others.replace(again);
    assert_eq!(file::print(&others), printed);
});
