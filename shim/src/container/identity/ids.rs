//! User and groups.

use rustix::process::{Gid, Uid};
use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{IdentityError, change};
use crate::plan::Identity;

/// Changes all ids of the process, whose only thread this is. Permitted capabilities outlive it; the caller sets them.
pub(super) fn apply(identity: &Identity) -> Result<(), IdentityError> {
    let groups: Vec<Gid> = identity.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).map_err(change("set the additional groups"))?;
    let gid = Gid::from_raw(identity.gid);
    set_thread_res_gid(gid, gid, gid).map_err(change("set the group"))?;
    set_keep_capabilities(true).map_err(change("keep the capabilities"))?;
    let uid = Uid::from_raw(identity.uid);
    set_thread_res_uid(uid, uid, uid).map_err(change("set the user"))?;
    set_keep_capabilities(false).map_err(change("keep the capabilities no longer"))
}
