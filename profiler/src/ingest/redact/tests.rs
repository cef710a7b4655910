use super::*;

/// Splits at blanks; `~` stands for a blank within an argument.
fn argv(line: &str) -> Vec<Text> {
    line.split(' ')
        .map(|word| word.replace('~', " ").into_bytes())
        .collect()
}

fn shown(argv: &[Text]) -> String {
    argv.iter()
        .map(|argument| String::from_utf8_lossy(argument).replace(' ', "~"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Arguments before and after.
const MASKED: &[(&str, &str)] = &[
    // Options, with the value behind `=` or in the next argument.
    ("app --password x", "app --password ***"),
    ("app --password=x", "app --password=***"),
    ("app -password x", "app -password ***"),
    ("app --db.password x -v", "app --db.password *** -v"),
    ("app --token abc --verbose", "app --token *** --verbose"),
    ("app --authToken abc", "app --authToken ***"),
    ("app --auth abc", "app --auth ***"),
    ("app --auth-key=abc", "app --auth-key=***"),
    ("app --secret abc", "app --secret ***"),
    ("app --client-secret=abc=", "app --client-secret=***"),
    (
        "curl --oauth2-bearer abc https://h",
        "curl --oauth2-bearer *** https://h",
    ),
    (
        "skopeo copy --src-creds me:pw --dest-creds=you:pw docker://a",
        "skopeo copy --src-creds me:*** --dest-creds=you:*** docker://a",
    ),
    ("podman pull --creds me:pw img", "podman pull --creds me:*** img"),
    (
        "wget --http-password=a~b https://h",
        "wget --http-password=*** https://h",
    ),
    (
        "npm config set //registry.npmjs.org/:_authToken abc",
        "npm config set //registry.npmjs.org/:_authToken ***",
    ),
    // Variables.
    (
        "podman build --build-arg TOKEN=abc .",
        "podman build --build-arg TOKEN=*** .",
    ),
    (
        "podman build --build-arg=TOKEN=abc .",
        "podman build --build-arg=TOKEN=*** .",
    ),
    ("docker run -e PASSWORD=x img", "docker run -e PASSWORD=*** img"),
    ("docker run -ePASSWORD=x img", "docker run -ePASSWORD=*** img"),
    (
        "docker run --env=MYSQL_ROOT_PASSWORD=a=b~c img",
        "docker run --env=MYSQL_ROOT_PASSWORD=*** img",
    ),
    ("docker run -e PASSWORD=\"a\"b img", "docker run -e PASSWORD=*** img"),
    (
        "env API_KEY=x aws_secret_access_key=y make",
        "env API_KEY=*** aws_secret_access_key=*** make",
    ),
    (
        "env DB_PASS=x DB_PWD=y dbPass=z make",
        "env DB_PASS=*** DB_PWD=*** dbPass=*** make",
    ),
    (
        "env MY_PRIVATE_KEY=x GIT_CREDENTIALS=y APIKEY=z",
        "env MY_PRIVATE_KEY=*** GIT_CREDENTIALS=*** APIKEY=***",
    ),
    (
        "mvn -Dgpg.passphrase=x -Dserver.password=y",
        "mvn -Dgpg.passphrase=*** -Dserver.password=***",
    ),
    (
        "npm i --//r.example/:_authToken=abc",
        "npm i --//r.example/:_authToken=***",
    ),
    ("psql host=db~password=x~user=me", "psql host=db~password=***~user=me"),
    ("app Server=db;Password=x;Port=1", "app Server=db;Password=***;Port=1"),
    ("app type=env,token=abc,mode=2", "app type=env,token=***,mode=2"),
    // Programs' own options.
    ("mysql -uroot -psecret db", "mysql -uroot -p*** db"),
    ("/usr/bin/mysqldump -psecret db", "/usr/bin/mysqldump -p*** db"),
    ("sudo -u me mysql -psecret", "sudo -u me mysql -p***"),
    ("env A=b nice mysql -psecret", "env A=b nice mysql -p***"),
    (
        "docker login -u me -p x reg.example",
        "docker login -u me -p *** reg.example",
    ),
    ("podman login -px reg.example", "podman login -p*** reg.example"),
    ("sudo docker login -p x", "sudo docker login -p ***"),
    ("docker exec -it db mysql -psecret", "docker exec -it db mysql -p***"),
    (
        "docker run --rm curlimages/curl:8 -u a:b https://h",
        "docker run --rm curlimages/curl:8 -u a:*** https://h",
    ),
    ("curl -u me:pw https://h", "curl -u me:*** https://h"),
    ("curl -ume:pw https://h", "curl -ume:*** https://h"),
    ("curl -fsSLu me:pw https://h", "curl -fsSLu me:*** https://h"),
    ("curl --user me:p:w https://h", "curl --user me:*** https://h"),
    ("curl --user=me:pw https://h", "curl --user=me:*** https://h"),
    ("curl -b session=x https://h", "curl -b session=*** https://h"),
    ("sshpass -p x ssh -p 22 h", "sshpass -p *** ssh -p 22 h"),
    ("redis-cli -a x ping", "redis-cli -a *** ping"),
    ("mongosh -u me -p x", "mongosh -u me -p ***"),
    ("ldapsearch -D cn=me -w x", "ldapsearch -D cn=me -w ***"),
    ("smbclient -U me%pw //h/s", "smbclient -U me%*** //h/s"),
    ("lftp -u me,pw h", "lftp -u me,*** h"),
    ("openssl enc -aes-256-cbc -k x", "openssl enc -aes-256-cbc -k ***"),
    ("openssl rsa -passin pass:x", "openssl rsa -passin pass:***"),
    ("zip -P x a.zip b", "zip -P *** a.zip b"),
    ("7z a -px a.7z", "7z a -p*** a.7z"),
    ("useradd -p hash me", "useradd -p *** me"),
    (
        "kubectl create secret generic s --from-literal=user=x",
        "kubectl create secret generic s --from-literal=user=***",
    ),
    ("gh secret set NAME --body x", "gh secret set NAME --body ***"),
    // URLs.
    ("git clone https://me:pw@h/r.git", "git clone https://me:***@h/r.git"),
    (
        "git clone https://private-token:pw@h/r.git",
        "git clone https://private-token:***@h/r.git",
    ),
    (
        "app --db=postgres://me:p@w@db/x?sslmode=off",
        "app --db=postgres://me:***@db/x?sslmode=off",
    ),
    (
        "app redis://:pw@h a,https://b:c@d,e",
        "app redis://:***@h a,https://b:***@d,e",
    ),
    ("curl https://h/x?token=abc&y=1#z", "curl https://h/x?token=***&y=1#z"),
    (
        "curl https://h/x?y=1&access_token=abc",
        "curl https://h/x?y=1&access_token=***",
    ),
    // Headers and JSON.
    (
        "curl -H Authorization:~Bearer~abc https://h",
        "curl -H Authorization:~Bearer~*** https://h",
    ),
    (
        "curl -HAuthorization:Basic~abc https://h",
        "curl -HAuthorization:Basic~*** https://h",
    ),
    (
        "curl --header=authorization:~abc https://h",
        "curl --header=authorization:~*** https://h",
    ),
    (
        "curl -H PRIVATE-TOKEN:~abc -H X-Api-Key:abc h",
        "curl -H PRIVATE-TOKEN:~*** -H X-Api-Key:*** h",
    ),
    ("curl -H Cookie:~a=b;~c=d h", "curl -H Cookie:~*** h"),
    (
        "git -c http.extraHeader=Authorization:~Basic~abc fetch",
        "git -c http.extraHeader=Authorization:~Basic~*** fetch",
    ),
    (
        "curl -d {\"user\":\"me\",\"password\":\"a~b\\\"c\",\"n\":1}",
        "curl -d {\"user\":\"me\",\"password\":\"***\",\"n\":1}",
    ),
    ("curl -d {\"token\":~123,~\"n\":1}", "curl -d {\"token\":~***,~\"n\":1}"),
    (
        "app {\"auths\":{\"r\":{\"auth\":\"YTpi\"}}}",
        "app {\"auths\":{\"r\":{\"auth\":\"***\"}}}",
    ),
    // Tokens by their look.
    ("app ghp_0123456789abcdefABCDEF0123456789abcd", "app ghp_***"),
    ("app x=github_pat_11ABCDEFG0123456789_abc,y", "app x=github_pat_***,y"),
    ("app glpat-abcdefABCDEF01234567", "app glpat-***"),
    ("app AKIAIOSFODNN7EXAMPLE", "app AKIA***"),
    (
        "app xoxb-123456789012-abc xoxp-123456789012-abc",
        "app xoxb-*** xoxp-***",
    ),
    ("app eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s-ig_1", "app eyJ***"),
    ("app sk-proj-ABCDEF0123456789abcdef", "app sk-***"),
    (
        "app https://ghp_0123456789abcdefABCD@github.com/r",
        "app https://ghp_***@github.com/r",
    ),
    (
        "app -----BEGIN~RSA~PRIVATE~KEY-----\nabc\n-----END~RSA~PRIVATE~KEY-----",
        "app -----BEGIN~RSA~PRIVATE~KEY-----***-----END~RSA~PRIVATE~KEY-----",
    ),
    // Command lines in an argument.
    (
        "sh -c curl~-H~'Authorization:~Bearer~x'~https://h",
        "sh -c curl~-H~'Authorization:~Bearer~***'~https://h",
    ),
    ("/bin/sh -c TOKEN=abc~make~all", "/bin/sh -c TOKEN=***~make~all"),
    ("/bin/sh -c TOKEN='a~b'~make", "/bin/sh -c TOKEN='***'~make"),
    (
        "bash -lc cd~/x&&mysql~-psecret~db;~ls",
        "bash -lc cd~/x&&mysql~-p***~db;~ls",
    ),
    (
        "sh -c app~--password~\"a~b\"~--next",
        "sh -c app~--password~\"***\"~--next",
    ),
    (
        "sh -c docker~login~-p~$(cat~f)~&&~docker~login~-p~x",
        "sh -c docker~login~-p~$(cat~f)~&&~docker~login~-p~***",
    ),
    ("sh -c sh~-c~'app~--token~abc~x'", "sh -c sh~-c~'app~--token~***~x'"),
    (
        "sh -c docker~run~-e~\"PASSWORD=a~b\"~img",
        "sh -c docker~run~-e~\"PASSWORD=***\"~img",
    ),
    (
        "sh -c echo~'{\"password\":~\"x\"}'",
        "sh -c echo~'{\"password\":~\"***\"}'",
    ),
    (
        "sh -c curl~-d~\"{\\\"password\\\":\\\"x\\\"}\"~h",
        "sh -c curl~-d~\"{\\\"password\\\":\\\"***\\\"}\"~h",
    ),
    (
        "sh -c A=b~curl~-u~me:pw~h|tee~log",
        "sh -c A=b~curl~-u~me:***~h|tee~log",
    ),
    ("sh -c export~API_KEY=abc\nmake", "sh -c export~API_KEY=***\nmake"),
    ("sh -c mysql~-p'$ecret'", "sh -c mysql~-p***"),
    (
        "sh -c skopeo~copy~--src-creds=me:x~--dest-creds=$YOU:$PW~a",
        "sh -c skopeo~copy~--src-creds=me:***~--dest-creds=$YOU:$PW~a",
    ),
    ("ssh h TOKEN=abc~make", "ssh h TOKEN=***"),
];

/// Arguments that stay.
const KEPT: &[&str] = &[
    "podman run -p 8080:80 -p127.0.0.1:80:80/tcp img",
    "docker run --name mysql -p 3306:3306 mysql:8",
    "docker login --password-stdin -u me reg.example",
    "git commit --author x --authority y",
    "podman pull --authfile /run/auth.json img",
    "skopeo copy --src-authfile=/a --authfile /b docker://a dir:b",
    "podman build --secret id=npm,src=/path/to/token .",
    "podman build --secret=id=npm,env=NPM_TOKEN .",
    "buildctl build --secret id=x,src=y",
    "podman run --secret db,type=env,target=DB img",
    "sh -c RUN~--mount=type=secret,id=aws,target=/root/.aws/credentials~make",
    "app --token-file /run/token --password-file=/x --passwd-fd 3 --password-path=/y",
    "gh auth login --with-token",
    "docker run -e SSH_AUTH_SOCK=/run/agent -e PWD=/x -e AUTH_TYPE=basic img",
    "docker run -e MYSQL_ALLOW_EMPTY_PASSWORD=yes -e TOKEN= -e AUTH=false img",
    "docker run -e TOKEN img",
    "ssh -o PasswordAuthentication=no -p 22 h",
    "collect2 -plugin-opt=-pass-through=-lgcc -pass-exit-codes x.o",
    "cc1 -quiet -imultiarch x86_64-linux-gnu x.c -fpass-plugin=x -auxbase x",
    "rustc --crate-name tokenizers --cfg feature=\"x\" -C metadata=ab",
    "app --tokenizer gpt2 --max-tokens 100 --secretary x",
    "mysql -p db",
    "mysql -h db -P 3306 -uroot",
    "curl -u me https://h",
    "curl -o out -A agent:1 https://h:8080/x@y:z",
    "docker pull reg.example:5000/team/auth:1.2",
    "docker pull reg.example/token:1.2@sha256:0123456789abcdef0123456789abcdef",
    "git commit -m auth:~remove~a~check",
    "app disk-ABCDEF0123456789abcdef01 sk-learn AKIAshort eyJust.a.name ghp_short",
    "app --name sk-my-own-container-name-of-old",
    "sh -c app~--password~$PASSWORD~--token=\"$TOKEN\"~x",
    "sh -c curl~-H~\"Authorization:~Bearer~$TOKEN\"~https://$USER:$PASS@h",
    "sh -c [~-z~\"$TOKEN\"~]~||~echo~it's~unset",
    "app -----BEGIN~CERTIFICATE-----\nabc\n-----END~CERTIFICATE-----",
    "wget --auth-no-challenge https://h",
    "app --no-password https://h",
    "app --password",
    "app --password --verbose",
    "- -- --= = -c : \" ' \\ \\\" => :// ://@",
    "",
];

/// Make sure that secrets are masked, and nothing around them.
#[test]
fn masks_secrets() {
    for (before, after) in MASKED {
        let mut words = argv(before);
        let changed = redact(&mut words);
        assert_eq!(shown(&words), *after, "of {before}");
        assert!(changed, "{before}");
    }
}

/// Make sure that what only looks like a secret stays.
#[test]
fn keeps_the_rest() {
    for line in KEPT {
        let mut words = argv(line);
        assert!(!redact(&mut words), "{line} became {}", shown(&words));
        assert_eq!(shown(&words), *line);
    }
}

/// Make sure that a second pass finds nothing more and changes nothing.
#[test]
fn masked_stays_masked() {
    for (before, after) in MASKED {
        let mut words = argv(before);
        redact(&mut words);
        assert!(!redact(&mut words), "{before}");
        assert_eq!(shown(&words), *after);
    }
}

/// Make sure that every rule of the tables masks something, in the form that it states.
#[test]
fn every_rule_masks() {
    for rule in rules::OPTIONS {
        let value: &[u8] = match rule.mask {
            Mask::All => b"hidden",
            Mask::AfterColon => b"a:hidden",
            Mask::AfterPercent => b"a%hidden",
            Mask::AfterComma => b"a,hidden",
            Mask::AfterEquals => b"a=hidden",
        };
        let joined = match rule.option.starts_with("--") {
            true => [rule.option.as_bytes(), b"=", value].concat(),
            false => [rule.option.as_bytes(), value].concat(),
        };
        for program in rule.programs {
            let start: Vec<Text> = [program.as_bytes()]
                .into_iter()
                .chain(rule.with.map(str::as_bytes))
                .map(<[u8]>::to_vec)
                .collect();
            if rule.next {
                let mut words = [&start[..], &[rule.option.into(), value.to_vec()]].concat();
                assert!(redact(&mut words), "{}", shown(&words));
                assert!(!shown(&words).contains("hidden"), "{}", shown(&words));
            }
            if rule.attached {
                let mut words = [&start[..], std::slice::from_ref(&joined)].concat();
                assert!(redact(&mut words), "{}", shown(&words));
                assert!(!shown(&words).contains("hidden"), "{}", shown(&words));
            }
        }
    }
    for shape in rules::SHAPES {
        let body = match shape.body {
            rules::Body::Capitals => "Z9".repeat(shape.least),
            rules::Body::Jwt => "Zz9aZz9a.Zz9a".repeat(shape.least),
            rules::Body::Word | rules::Body::Mixed => "Zz9a".repeat(shape.least),
        };
        let mut words = vec![format!("{}{body}", shape.prefix).into_bytes()];
        assert!(redact(&mut words), "{}", shape.prefix);
    }
}

/// Make sure that the document lists every word, program, option and token prefix of the tables.
#[test]
fn document_is_complete() {
    let document = include_str!("../../../../docs/redaction.md");
    let lists = [
        rules::PARTS,
        rules::WORDS,
        rules::FINAL_WORDS,
        rules::LAST_WORDS,
        rules::NO_SECRETS,
        rules::SWITCHES,
        rules::SCHEMES,
        rules::WRAPPERS,
        rules::ENGINES,
    ];
    let options = rules::OPTIONS
        .iter()
        .flat_map(|rule| rule.programs.iter().copied().chain([rule.option]));
    let prefixes = rules::SHAPES.iter().map(|shape| shape.prefix);
    for word in lists.into_iter().flatten().copied().chain(options).chain(prefixes) {
        assert!(
            document.contains(&format!("`{word}`")),
            "`{word}` is not in docs/redaction.md"
        );
    }
}

/// Make sure that bytes which are not UTF-8 pass through, beside secrets as well.
#[test]
fn any_bytes() {
    let mut words = vec![
        b"app\xff".to_vec(),
        b"\xfe\xffTOKEN=\xff\xfe".to_vec(),
        vec![0x80; 9],
        Vec::new(),
    ];
    redact(&mut words);
    assert_eq!(words[0], b"app\xff");
    assert_eq!(words[1], b"\xfe\xffTOKEN=***");
    assert_eq!(words[2], [0x80; 9]);
    for seed in 0..2_000u32 {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let alphabet = b"=:'\"\\ -@/$;aTOKEN,&?{}*(\n\xff";
        let word: Vec<u8> = (0..60)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                alphabet[state as usize % alphabet.len()]
            })
            .collect();
        redact(&mut [b"sh".to_vec(), b"-c".to_vec(), word.clone(), word]);
    }
}

/// Make sure that the work grows with the length and not faster, for what is repeated in an argument: counted as
/// the bytes that are looked at, not timed.
#[test]
fn linear() {
    for unit in [
        "=",
        ":",
        "://",
        "a=",
        "token=",
        "token=$",
        "token=\"$",
        "creds=x",
        "creds=x:$",
        "a://b:$@",
        "\"token\":$",
        "\"token\":",
        "cookie:",
        "cookie:$",
        "eyJ.",
        "sk-",
        "-----BEGIN ",
        "'",
        "\"",
        "\\",
        "a:",
        "@://:",
        "-p ",
        "--token ",
        "sh -c '",
        "(",
        "a b",
        "cookie:basic $",
    ] {
        let work = |len: usize| {
            scan::LOOKED_AT.set(0);
            let argument: Vec<u8> = unit.bytes().cycle().take(len).collect();
            redact(&mut [b"sh".to_vec(), b"-c".to_vec(), argument.clone(), argument]);
            scan::LOOKED_AT.get()
        };
        let (short, long) = (work(2_048), work(16_384));
        assert!(
            long < 10 * short + 10_000,
            "{unit:?}: {short} bytes looked at, of eight times the length {long}"
        );
    }
}
