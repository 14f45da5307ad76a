//! `doctor`: every prerequisite and every known trap, with what to do.

use std::path::PathBuf;

use ha_core::Distribution;

use super::verbs::block_on;
use crate::context::Context;
use crate::doctor;
use crate::report::{Failure, Verdict};
use crate::root::Root;

/// Everything that can be looked at from here.
pub(super) fn doctor(context: &Context) -> Verdict {
    block_on(async { Ok(doctor::examine(context, None).await) })
}

/// Settings that cannot be read are one finding among others: all else is looked at with the defaults.
pub(super) fn without_settings(
    distribution: &'static dyn Distribution,
    root: Root,
    config: Option<PathBuf>,
    fault: &Failure,
) -> Verdict {
    let context = Context::with_defaults(distribution, root, config);
    block_on(async { Ok(doctor::examine(&context, Some(fault)).await) })
}
