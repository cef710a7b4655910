//! The clients: their global options, and the verbs that are groups of others.
//!
//! From the help texts of podman 4.3 to 5.x, buildah 1.28, docker 20.10 to 28, nerdctl 1.x, ctr 1.6, crictl and
//! skopeo 1.9.

/// A client program. Its lists are words with a space between.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Global flags that take a value, long names and letters.
    pub(super) values: &'static str,
    /// Verbs that are followed by another.
    pub(super) groups: &'static str,
}

const PODMAN_VALUES: &str = "cgroup-manager config conmon connection c db-backend events-backend hooks-dir identity \
                                 imagestore log-level module namespace network-backend network-cmd-path \
                                 network-config-dir out registries-conf root runroot runtime runtime-flag ssh \
                                 storage-driver storage-opt tmpdir url volumepath";
const PODMAN_GROUPS: &str = "container generate healthcheck image kube machine manifest network play pod secret \
                                 system volume";

pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "podman",
        values: PODMAN_VALUES,
        groups: PODMAN_GROUPS,
    },
    Tool {
        name: "podman-remote",
        values: PODMAN_VALUES,
        groups: PODMAN_GROUPS,
    },
    Tool {
        name: "buildah",
        values: "log-level registries-conf registries-conf-dir root runroot short-name-alias-conf storage-driver \
                     storage-opt userns-gid-map userns-uid-map",
        groups: "manifest",
    },
    Tool {
        name: "skopeo",
        values: "command-timeout override-arch override-os override-variant policy registries-conf registries.d \
                 tmpdir user-agent",
        groups: "",
    },
    Tool {
        name: "docker-compose",
        values: "ansi c context env-file f file H host l log-level p parallel profile progress project-directory \
                 project-name tlscacert tlscert tlskey",
        groups: "",
    },
    Tool {
        name: "docker",
        values: "config context c host H log-level l tlscacert tlscert tlskey",
        groups: "builder buildx checkpoint compose config container context image manifest network node plugin \
                     secret service stack swarm system trust volume",
    },
    Tool {
        name: "nerdctl",
        values: "address a H host namespace n cgroup-manager cni-netconfpath cni-path data-root hosts-dir \
                     snapshotter storage-driver",
        groups: "apparmor builder compose container image namespace network system volume",
    },
    Tool {
        name: "ctr",
        values: "address a timeout connect-timeout namespace n",
        groups: "plugins plugin containers container c content events images image i leases namespaces namespace ns \
                     snapshots snapshot tasks task t",
    },
    Tool {
        name: "crictl",
        values: "config c image-endpoint i runtime-endpoint r timeout t",
        groups: "",
    },
];

/// Verbs that show where a global flag that is in no list ends.
pub(super) const VERBS: &str = "add attach bud build commit compose container copy cp create exec from image images \
                                   import inspect kill load logs pod ps pull push restart rm rmi run save start stop \
                                   system tag unshare volume wait";
