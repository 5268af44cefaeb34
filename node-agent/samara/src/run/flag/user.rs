//! `--user`.

use anyhow::{Context as _, Result};

/// `USER[:GROUP]`: numbers as they are, names by the image's `/etc/passwd` and `/etc/group`.
pub(crate) fn resolve(text: Option<&str>, passwd: &str, groups: &str) -> Result<(u32, u32)> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok((0, 0)) };
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let entry = entry(passwd, user);
    let unknown = |what: &str, file: &str| {
        format!("user {text}: the image has no {what} of that name in {file}; a number always works")
    };
    let uid = match (user.parse::<u32>(), entry) {
        (Ok(uid), _) => uid,
        (Err(_), Some((uid, _))) => uid,
        (Err(_), None) => return Err(anyhow::Error::msg(unknown("user", "/etc/passwd"))),
    };
    let gid = match group {
        "" => entry.map_or(0, |(_, gid)| gid),
        group => match group.parse() {
            Ok(gid) => gid,
            Err(_) => named_group(groups, group).with_context(|| unknown("group", "/etc/group"))?,
        },
    };
    Ok((uid, gid))
}

/// uid and gid of a line of `/etc/passwd`, by name or number.
fn entry(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        (name == user || uid == user).then(|| Some((uid.parse().ok()?, gid.parse().ok()?)))?
    })
}

fn named_group(groups: &str, group: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        (name == group).then(|| gid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:\nbroken\nbad:x:no:1::/:\n";
    const GROUPS: &str = "root:x:0:\nstaff:x:50:web\nbroken\n";

    #[test]
    fn numbers_are_taken_as_they_are_and_names_from_the_image() {
        for (text, expected) in [
            (None, (0, 0)),
            (Some(""), (0, 0)),
            (Some("5"), (5, 0)),
            (Some("5:6"), (5, 6)),
            (Some("33"), (33, 34)),
            (Some("web"), (33, 34)),
            (Some("web:staff"), (33, 50)),
            (Some("7:staff"), (7, 50)),
        ] {
            assert_eq!(resolve(text, PASSWD, GROUPS).unwrap(), expected, "{text:?}");
        }
        for bad in ["nobody", "web:nobody", "bad", "-1", "4294967296"] {
            let error = resolve(Some(bad), PASSWD, GROUPS).unwrap_err().to_string();
            assert!(error.contains("a number always works"), "{error}");
        }
    }
}
