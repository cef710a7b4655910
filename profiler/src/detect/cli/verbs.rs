//! The verbs: how their flags are written, which of them take a value.
//!
//! From the same help texts as [`super::tools`].

/// How a verb's flags are written. Its lists are words with a space between.
pub(super) struct Grammar {
    pub(super) verbs: &'static str,
    /// Flags without a value.
    pub(super) switches: &'static str,
    /// Flags with one.
    pub(super) values: &'static str,
    /// Letters and what they stand for.
    pub(super) letters: &'static [(u8, &'static str)],
    /// Whether flags may stand behind operands.
    pub(super) mixed: bool,
    /// Whether a long name may have one dash only.
    pub(super) one_dash: bool,
}

pub(super) const GRAMMARS: &[Grammar] = &[RUN, BUILD, EXEC, OTHER, PULL, COPY];
/// ctr's own, by urfave/cli.
pub(super) const CTR: &[Grammar] = &[CTR_RUN, CTR_PULL, CTR_EXEC, CTR_OTHER];

const RUN: Grammar = Grammar {
    verbs: "run create",
    switches: "detach disable-content-trust env-host help http-proxy init interactive no-healthcheck no-hostname \
                   no-hosts oom-kill-disable passwd privileged publish-all quiet read-only read-only-tmpfs replace rm \
                   rmi rootfs sig-proxy tls-verify tty unsetenv-all use-api-socket",
    values: "add-host annotation arch attach authfile blkio-weight blkio-weight-device cap-add cap-drop cgroup-conf \
                 cgroup-parent cgroupns cgroups chrootdirs cidfile conmon-pidfile cpu-count cpu-percent cpu-period \
                 cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems decryption-key \
                 detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps \
                 device-write-iops dns dns-opt dns-option dns-search domainname entrypoint env env-file env-merge \
                 expose gidmap gpus group-add group-entry health-cmd health-interval health-on-failure health-retries \
                 health-start-interval health-start-period health-startup-cmd health-startup-interval \
                 health-startup-retries health-startup-success health-startup-timeout health-timeout hostname hostuser \
                 image-volume init-path io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file \
                 link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap \
                 memory-swappiness mount name net net-alias network network-alias oom-score-adj os passwd-entry \
                 personality pid pidfile pids-limit platform pod pod-id-file preserve-fd preserve-fds publish pull \
                 rdt-class requires restart retry retry-delay runtime sdnotify seccomp-policy secret security-opt \
                 shm-size shm-size-systemd signature-policy stop-signal stop-timeout storage-opt subgidname subuidname sysctl systemd \
                 timeout tmpfs tz uidmap ulimit umask unsetenv user userns uts variant volume volume-driver \
                 volumes-from workdir",
    letters: &[
        (b'P', "publish-all"),
        (b'a', "attach"),
        (b'c', "cpu-shares"),
        (b'd', "detach"),
        (b'e', "env"),
        (b'h', "hostname"),
        (b'i', "interactive"),
        (b'l', "label"),
        (b'm', "memory"),
        (b'p', "publish"),
        (b'q', "quiet"),
        (b't', "tty"),
        (b'u', "user"),
        (b'v', "volume"),
        (b'w', "workdir"),
    ],
    mixed: false,
    one_dash: false,
};

pub(super) const BUILD: Grammar = Grammar {
    verbs: "build bud build-using-dockerfile",
    switches: "all-platforms compress disable-compression disable-content-trust force-rm help http-proxy \
                   identity-label layers load logsplit no-cache no-hostname no-hosts omit-history push quiet rm \
                   skip-unused-stages squash squash-all stdin tls-verify",
    values: "add-host allow annotation arch attest authfile build-arg build-arg-file build-context builder \
                 cache-from cache-to cache-ttl cap-add cap-drop cert-dir cgroup-parent cgroupns cpp-flag cpu-period \
                 cpu-quota cpu-shares cpuset-cpus cpuset-mems creds cw decryption-key device dns dns-option dns-search \
                 env file format from group-add hooks-dir ignorefile iidfile ipc isolation jobs label layer-label \
                 logfile manifest memory memory-swap metadata-file network net no-cache-filter os os-feature os-version \
                 output pid platform progress provenance retry retry-delay runtime runtime-flag sbom secret \
                 security-opt shm-size sign-by signature-policy ssh tag target timestamp ulimit unsetenv unsetlabel \
                 userns userns-gid-map userns-gid-map-group userns-uid-map userns-uid-map-user uts variant volume",
    letters: &[
        (b'D', "disable-compression"),
        (b'c', "cpu-shares"),
        (b'f', "file"),
        (b'm', "memory"),
        (b'o', "output"),
        (b'q', "quiet"),
        (b't', "tag"),
        (b'v', "volume"),
    ],
    mixed: true,
    one_dash: false,
};

const EXEC: Grammar = Grammar {
    verbs: "exec",
    switches: "detach help interactive latest privileged tty",
    values: "detach-keys env env-file preserve-fd preserve-fds user workdir",
    letters: &[
        (b'd', "detach"),
        (b'e', "env"),
        (b'i', "interactive"),
        (b'l', "latest"),
        (b't', "tty"),
        (b'u', "user"),
        (b'w', "workdir"),
    ],
    mixed: false,
    one_dash: false,
};

const OTHER: Grammar = Grammar {
    verbs: "stop restart start kill rm",
    switches: "all attach force help ignore interactive latest link running sig-proxy volumes",
    values: "checkpoint cidfile depend detach-keys filter signal time timeout",
    letters: &[
        (b'a', "all"),
        (b'f', "force"),
        (b'i', "interactive"),
        (b'l', "latest"),
        (b's', "signal"),
        (b't', "time"),
        (b'v', "volumes"),
    ],
    mixed: true,
    one_dash: false,
};

const PULL: Grammar = Grammar {
    verbs: "pull",
    switches: "all-platforms all-tags disable-content-trust help ignore-pull-failures include-deps \
               quiet remove-signatures tls-verify",
    values: "arch authfile cert-dir cosign-key creds decryption-key os platform policy retry retry-delay signature-policy \
             unpack variant verify",
    letters: &[(b'a', "all-tags"), (b'q', "quiet")],
    mixed: true,
    one_dash: false,
};

/// skopeo's.
const COPY: Grammar = Grammar {
    verbs: "copy",
    switches: "all dest-compress dest-decompress dest-no-creds dest-oci-accept-uncompressed-layers \
               dest-precompute-digests dest-tls-verify help preserve-digests quiet remove-signatures src-no-creds \
               src-tls-verify",
    values: "additional-tag authfile decryption-key dest-authfile dest-cert-dir dest-compress-format \
             dest-compress-level dest-creds dest-daemon-host dest-password dest-registry-token dest-shared-blob-dir \
             dest-username digestfile encrypt-layer encryption-key format image-parallel-copies multi-arch retry-times \
             sign-by sign-by-sigstore sign-identity sign-passphrase-file src-authfile src-cert-dir src-creds \
             src-daemon-host src-password src-registry-token src-shared-blob-dir src-username",
    letters: &[(b'a', "all"), (b'f', "format"), (b'q', "quiet")],
    mixed: true,
    one_dash: false,
};

const CTR_RUN: Grammar = Grammar {
    verbs: "run create",
    switches: "allow-new-privs cgroup-v2 cni d detach enable-device-cdi env-from-host help \
               isolated net-host no-pivot null-io privileged read-only remap-labels rm rootfs runc-systemd-cgroup \
               seccomp t tty",
    values: "allow-new-privileges annotation apparmor-default-profile apparmor-profile cap-add cap-drop cgroup config \
             cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems cwd device env env-file fifo-dir gidmap \
             gpus hostname label log-uri memory-limit mount pid-file platform rdt-class rlimit-nofile rootfs-propagation \
             runc-binary runc-root runtime runtime-config-path runtime-root seccomp-profile snapshotter \
             snapshotter-label uidmap user with-ns",
    letters: &[(b'c', "config"), (b'd', "detach"), (b't', "tty")],
    mixed: false,
    one_dash: true,
};

const CTR_PULL: Grammar = Grammar {
    verbs: "pull fetch",
    switches: "all-metadata all-platforms help http-dump http-trace k local \
               metadata-only plain-http print-chainid skip-metadata skip-verify sync-fs",
    values: "hosts-dir label max-concurrent-downloads platform refresh snapshotter tlscacert tlscert tlskey u user",
    letters: &[(b'k', "skip-verify"), (b'u', "user")],
    mixed: false,
    one_dash: true,
};

const CTR_EXEC: Grammar = Grammar {
    verbs: "exec",
    switches: "d detach help t tty",
    values: "cwd exec-id fifo-dir log-uri user",
    letters: &[(b'd', "detach"), (b't', "tty")],
    mixed: false,
    one_dash: true,
};

const CTR_OTHER: Grammar = Grammar {
    verbs: "start kill delete del rm remove pause resume",
    switches: "a all d detach f force help keep-snapshot null-io",
    values: "exec-id fifo-dir log-uri pid-file s signal",
    letters: &[(b'a', "all"), (b'd', "detach"), (b'f', "force"), (b's', "signal")],
    mixed: false,
    one_dash: true,
};
