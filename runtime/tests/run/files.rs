//! The guest's files, and that it has no others.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::guest::Guest;
use crate::wasm;

crate::trials![
    files_are_written_read_listed_renamed_and_removed,
    absolute_symlinks_work_inside_the_root,
    nothing_leads_out_of_the_root,
    links_can_be_read_whatever_they_say,
    a_guest_is_told_its_working_directory,
    the_working_directory_can_be_changed,
    relative_paths_begin_in_the_working_directory_and_absolute_ones_do_not,
    absolute_symlinks_work_from_any_open_directory,
    a_read_only_root_says_so,
    an_http_guest_has_files_too,
];

fn files_are_written_read_listed_renamed_and_removed() {
    for bytes in crate::guest::PROBES {
        let root = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| Guest::new(&bytes()).args(args).root(root.path()).run();
        run(&["make-dir", "/dir"]).succeeded();
        run(&["write", "/dir/file", "text"]).succeeded();
        assert_eq!(fs::read_to_string(root.path().join("dir/file")).unwrap(), "text");
        assert_eq!(run(&["cat", "/dir/file"]).succeeded(), "text");
        assert_eq!(run(&["cat", "/dir/../dir/./file"]).succeeded(), "text");
        assert_eq!(run(&["size", "dir/file"]).succeeded(), "4\n");
        run(&["rename", "/dir/file", "/other"]).succeeded();
        assert_eq!(run(&["list", "/"]).succeeded(), "dir,other\n");
        run(&["remove", "/other"]).succeeded();
        assert_eq!(run(&["exists", "/other"]).succeeded(), "false\n");
        assert!(run(&["cat", "/other"]).failed().contains("No such file"));
    }
}

fn absolute_symlinks_work_inside_the_root() {
    for bytes in crate::guest::PROBES {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/bin")).unwrap();
        fs::write(at("usr/bin/tool"), "tool").unwrap();
        symlink("/usr/bin", at("bin")).unwrap();
        symlink("/bin/tool", at("usr/bin/alias")).unwrap();
        symlink("../../../../usr", at("usr/bin/up")).unwrap();
        symlink("/usr/bin/made", at("made")).unwrap();
        let run = |args: &[&str]| Guest::new(&bytes()).args(args).root(root.path()).run();
        assert_eq!(run(&["cat", "/bin/tool"]).succeeded(), "tool");
        assert_eq!(run(&["cat", "/bin/alias"]).succeeded(), "tool");
        assert_eq!(run(&["cat", "/usr/bin/up/bin/tool"]).succeeded(), "tool");
        assert_eq!(run(&["list", "/bin/"]).succeeded(), "alias,tool,up\n");
        assert_eq!(run(&["size", "/bin/alias"]).succeeded(), "4\n");
        run(&["write", "/made", "through a dangling link"]).succeeded();
        assert_eq!(fs::read_to_string(at("usr/bin/made")).unwrap(), "through a dangling link");
        run(&["make-dir", "/bin/dir"]).succeeded();
        assert!(at("usr/bin/dir").is_dir());
        run(&["rename", "/bin/made", "/bin/moved"]).succeeded();
        run(&["remove", "/bin/moved"]).succeeded();
        run(&["remove", "/bin/alias"]).succeeded();
        assert!(!at("usr/bin/alias").exists() && at("usr/bin/tool").exists(), "the link went, not what it names");
    }
}

fn nothing_leads_out_of_the_root() {
    for bytes in crate::guest::PROBES {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("dir")).unwrap();
        symlink(&secret, root.join("absolute")).unwrap();
        symlink("../secret", root.join("relative")).unwrap();
        symlink("../../secret", root.join("dir/relative")).unwrap();
        symlink(outside.path(), root.join("directory")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let run = |args: &[&str]| Guest::new(&bytes()).args(args).root(&root).run();
        let real = secret.to_str().unwrap();
        for path in [
            "../secret",
            "/../secret",
            "/dir/../../secret",
            real,
            "/absolute",
            "/relative",
            "/dir/relative",
            "/directory/secret",
            "/magic/etc/passwd",
            "/etc/passwd",
            "//etc//passwd",
        ] {
            let error = run(&["cat", path]).failed();
            assert!(error.contains("No such file") || error.contains("not permitted"), "{path}: {error}");
            run(&["remove", "/../secret"]).failed();
        }
        run(&["write", "/directory/new", "x"]).failed();
        run(&["write", "/relative", "x"]).succeeded();
        assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "x", "`..` stops at the root");
        run(&["rename", "/secret", "/../moved"]).succeeded();
        assert!(root.join("moved").exists());
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2, "only the secret and the root");
    }
}

fn links_can_be_read_whatever_they_say() {
    for bytes in crate::guest::PROBES {
        let root = tempfile::tempdir().unwrap();
        symlink("/etc/hosts", root.path().join("absolute")).unwrap();
        symlink("up/and/away", root.path().join("relative")).unwrap();
        let run = |args: &[&str]| Guest::new(&bytes()).args(args).root(root.path()).run();
        assert_eq!(run(&["read-link", "/absolute"]).succeeded(), "/etc/hosts\n");
        assert_eq!(run(&["read-link", "/relative"]).succeeded(), "up/and/away\n");
    }
}

fn a_guest_is_told_its_working_directory() {
    for mut guest in Guest::probes(&["env", "PWD"]) {
        guest.world.cwd = "/work/dir".into();
        assert_eq!(guest.run().succeeded(), "/work/dir\n");
    }
    for guest in Guest::probes(&["env", "PWD"]) {
        assert_eq!(guest.run().failed(), "environment variable not found\n");
    }
}

fn the_working_directory_can_be_changed() {
    for guest in Guest::probes(&["chdir-cat", "/dir", "file"]) {
        fs::create_dir(guest.root_path().join("dir")).unwrap();
        fs::write(guest.root_path().join("dir/file"), "text").unwrap();
        assert_eq!(guest.run().succeeded(), "text");
    }
}

fn relative_paths_begin_in_the_working_directory_and_absolute_ones_do_not() {
    for bytes in crate::guest::PROBES {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("app/data")).unwrap();
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("app/config"), "relative").unwrap();
        fs::write(at("etc/config"), "absolute").unwrap();
        symlink("/etc/config", at("app/link")).unwrap();
        let run = |args: &[&str]| {
            let mut guest = Guest::new(&bytes()).args(args).root(root.path());
            guest.world.cwd = "/app".into();
            guest.run()
        };
        assert_eq!(run(&["cat", "config"]).succeeded(), "relative");
        assert_eq!(run(&["cat", "./config"]).succeeded(), "relative");
        assert_eq!(run(&["cat", "../etc/config"]).succeeded(), "absolute");
        assert_eq!(run(&["cat", "link"]).succeeded(), "absolute");
        assert_eq!(run(&["read-link", "link"]).succeeded(), "/etc/config\n");
        assert_eq!(run(&["cat", "/etc/config"]).succeeded(), "absolute");
        assert_eq!(run(&["cat", "/app/config"]).succeeded(), "relative");
        assert_eq!(run(&["size", "config"]).succeeded(), "8\n");
        assert_eq!(run(&["list", "."]).succeeded(), "config,data,link\n");
        run(&["write", "made", "here"]).succeeded();
        assert_eq!(fs::read_to_string(at("app/made")).unwrap(), "here");
        run(&["write", "/etc/made", "there"]).succeeded();
        assert_eq!(fs::read_to_string(at("etc/made")).unwrap(), "there");
        run(&["make-dir", "data/dir"]).succeeded();
        run(&["rename", "made", "/etc/moved"]).succeeded();
        assert!(at("app/data/dir").is_dir() && at("etc/moved").exists() && !at("app/made").exists());
        run(&["remove", "/etc/moved"]).succeeded();
        assert!(run(&["cat", "missing"]).failed().contains("No such file"));
    }
}

fn absolute_symlinks_work_from_any_open_directory() {
    for bytes in crate::guest::PROBES {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/bin")).unwrap();
        fs::create_dir_all(at("deep/in/here")).unwrap();
        fs::write(at("usr/bin/tool"), "tool").unwrap();
        symlink("/usr/bin", at("deep/in/here/bin")).unwrap();
        symlink("/usr/bin/tool", at("deep/in/here/tool")).unwrap();
        let run = |args: &[&str]| Guest::new(&bytes()).args(args).root(root.path()).run();
        assert_eq!(run(&["cat-at", "/deep/in/here", "tool"]).succeeded(), "tool");
        assert_eq!(run(&["cat-at", "/deep/in/here", "bin/tool"]).succeeded(), "tool");
        assert_eq!(run(&["cat-at", "/deep/in", "here/bin/../../usr/bin/tool"]).succeeded(), "tool");
        run(&["cat-at", "/deep/in/here", "bin/none"]).failed();
    }
}

fn a_read_only_root_says_so() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    let test = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("needs root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::write(path.join("file"), "text").unwrap();
        mount(none, &path, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, none).unwrap();
        for bytes in crate::guest::PROBES {
            let run = |args: &[&str]| Guest::new(&bytes()).args(args).root(&path).run();
            assert_eq!(run(&["cat", "/file"]).succeeded(), "text");
            for change in [
                &["write", "/file", "x"][..],
                &["write", "/new", "x"],
                &["make-dir", "/dir"],
                &["remove", "/file"],
                &["rename", "/file", "/other"],
            ] {
                let error = run(change).failed();
                assert!(error.contains("Read-only file system"), "{change:?}: {error}");
            }
        }
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

fn an_http_guest_has_files_too() {
    let server = crate::http::Server::start(|_| {}, |root| fs::write(root.join("file"), "text").unwrap());
    assert_eq!(server.get("/cat?/file"), (200, "text".into()));
    assert_eq!(server.get("/cat?/../../../../etc/passwd").0, 404);
    let _ = wasm::host();
}
