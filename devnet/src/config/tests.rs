use super::*;

fn write(text: &str) -> (tempfile::TempDir, UpArgs) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("penstock.toml");
    std::fs::write(&file, text).expect("a file");
    let args = UpArgs {
        config: Some(file),
        ..UpArgs::default()
    };
    (dir, args)
}

#[test]
fn what_config_prints_is_read_back_as_it_was() {
    let config = Config::default();
    let (_dir, args) = write(&toml::to_string(&config).expect("toml"));
    assert_eq!(Config::resolve(&args).expect("a configuration"), config);
}

#[test]
fn the_examples_are_configurations() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).expect("examples") {
        let path = entry.expect("an example").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let process = ProcessArgs {
            config: path.clone(),
            ..ProcessArgs::default()
        };
        let read = match name.as_str() {
            "up.toml" => Config::resolve(&UpArgs {
                config: Some(path),
                ..UpArgs::default()
            }),
            "shard.toml" => Config::resolve_process(&process),
            _ => Config::resolve_node(&NodeArgs {
                process,
                roles: Vec::new(),
            }),
        };
        if let Err(error) = read {
            panic!("{name}: {error:#}");
        }
        names.push(name);
    }
    assert!(names.len() >= 5, "{names:?}");
}

#[test]
fn a_process_of_many_needs_servers_a_data_folder_and_roles_that_are_nodes() {
    let full = "data = \"x\"\n[nats]\nurl = \"nats://x\"\n";
    for (text, good) in [
        (full.to_owned(), true),
        ("data = \"x\"\n".to_owned(), false),
        ("[nats]\nurl = \"nats://x\"\n".to_owned(), false),
        (format!("roles = []\n{full}"), false),
        (format!("roles = [\"shard\"]\n{full}"), false),
        (format!("roles = [\"cook\"]\n{full}"), false),
        (format!("roles = [\"follower\"]\n{full}"), true),
    ] {
        let (_dir, args) = write(&text);
        let process = ProcessArgs {
            config: args.config.expect("a file"),
            ..ProcessArgs::default()
        };
        let roles = Vec::new();
        let read = Config::resolve_node(&NodeArgs { process, roles });
        assert_eq!(read.is_ok(), good, "{text}");
    }
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    let secret = "ab".repeat(32);
    let (_dir, args) = write(&format!("[producer]\nkey = \"{secret}\"\n"));
    let error = format!("{:?}", Config::resolve(&args).expect_err("a secret"));
    assert!(!error.contains(&secret), "{error}");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let (_dir, mut args) = write("[rpc]\nport = 1\n[producer]\nblock_time = \"2s\"\n");
    args.port = Some(9);
    let config = Config::resolve(&args).expect("a configuration");
    assert_eq!(config.rpc.port, 9);
    assert_eq!(
        config.timetable().expect("a span"),
        Timetable::Slots(Micros::from_secs(2))
    );
}

#[test]
fn a_wrong_value_is_refused_by_name() {
    for (text, culprit) in [
        ("[rpc]\nprot = 1\n", "prot"),
        ("[rpc]\nport = 70000\n", "port"),
        ("[producer]\nblock_time = \"soon\"\n", "block_time"),
        ("[producer]\nblock_time = \"1ms\"\n", "block_time"),
        ("[inference]\nshards = 0\n", "shards"),
        ("[chain]\nhardfork = \"berlin\"\n", "hardfork"),
        ("[nats]\nreplicas = 2\n", "replicas"),
    ] {
        let (_dir, args) = write(text);
        let error = format!("{:?}", Config::resolve(&args).expect_err(text));
        assert!(error.contains(culprit), "{text}: {error}");
    }
    let args = UpArgs {
        config: Some("/nowhere/penstock.toml".into()),
        ..UpArgs::default()
    };
    let error = Config::resolve(&args).expect_err("no such file");
    assert!(error.to_string().contains("/nowhere/penstock.toml"));
}

#[test]
fn spans_are_read_as_people_write_them() {
    for (text, micros) in [
        ("1s", 1_000_000),
        ("250ms", 250_000),
        ("2m", 120_000_000),
        ("3", 3_000_000),
    ] {
        assert_eq!(span(text).expect(text), Micros(micros));
    }
    for text in ["", "s", "-1s", "1h", "99999999999999999999s"] {
        assert!(span(text).is_err(), "{text}");
    }
}
