//! Postgres refuses to run as root. When we are root, its processes and files belong to somebody else.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::error::DevError;

/// Whom Postgres runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Whoever started us.
    Ourselves,
    /// An unprivileged user, because we are root.
    Other {
        /// Its name.
        name: String,
        /// Its id.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl Owner {
    /// `postgres`, else `nobody`, when we are root.
    pub(super) fn choose() -> Result<Self, DevError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| in_passwd(&users, name))
            .ok_or(DevError::NobodyToRunAs)
    }

    /// A command that runs as this user, deaf to the Postgres variables of our own environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Our own folder may be closed to that user.
        command.current_dir("/").env("LC_ALL", "C");
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Gives a file or folder to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), DevError> {
        if let Self::Other { uid, gid, .. } = self {
            chown(path, Some(*uid), Some(*gid))
                .map_err(|error| DevError::file("change the owner of", path, &error))?;
        }
        Ok(())
    }

    /// Checks that this user can get to `dir`, an existing absolute path.
    pub(super) fn check_reach(&self, dir: &Path) -> Result<(), DevError> {
        let Self::Other { name, uid, gid } = self else {
            return Ok(());
        };
        for folder in dir.ancestors() {
            let metadata =
                std::fs::metadata(folder).map_err(|error| DevError::file("look at", folder, &error))?;
            let search_bit = if metadata.uid() == *uid {
                0o100
            } else if metadata.gid() == *gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & search_bit == 0 {
                return Err(DevError::Unreachable {
                    user: name.clone(),
                    dir: dir.to_owned(),
                    blocked_by: folder.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// `name:password:uid:gid:…` (passwd(5)).
fn in_passwd(users: &str, name: &str) -> Option<Owner> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let mut fields = fields.skip(1);
        Some(Owner::Other {
            name: name.to_owned(),
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_users() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\nbroken\n";
        assert_eq!(
            in_passwd(users, "postgres"),
            Some(Owner::Other {
                name: "postgres".into(),
                uid: 101,
                gid: 104
            })
        );
        assert_eq!(in_passwd(users, "broken"), None);
        assert_eq!(in_passwd(users, "post"), None);
    }

    #[test]
    fn names_the_folder_that_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let open = tempfile::tempdir().unwrap();
        std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let closed = open.path().join("closed");
        std::fs::create_dir_all(closed.join("inner")).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Owner::Other {
            name: "stranger".into(),
            uid: 4_000_000,
            gid: 4_000_000,
        };
        assert!(stranger.check_reach(open.path()).is_ok());
        let error = stranger.check_reach(&closed.join("inner")).unwrap_err();
        assert!(
            matches!(&error, DevError::Unreachable { blocked_by, .. } if *blocked_by == closed),
            "{error}"
        );
        assert!(Owner::Ourselves.check_reach(&closed).is_ok());
    }
}
