//! What a module's author needs: `use mortise_sdk::prelude::*;`

pub use crate::call::{Answer, Call, Edit, Out};
pub use crate::data_type::{DataType, Loader, Saver};
pub use crate::declare::flags::*;
pub use crate::declare::keys::*;
pub use crate::declare::{Shown, Spec};
pub use crate::error::{Error, Result};
pub use crate::host::{Level, Text};
pub use crate::module::{Command, Feature, Field, Section};
pub use crate::resp::decode::Reply;
pub use crate::{config, module, setting_enum};
