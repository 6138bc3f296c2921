//! Shared stores that do not work, each on a real server.

use peercache_testkit::servers::{
    Answer, FaultProxy, Kubo, KuboOptions, Mode, Moto, RedisServer, SeaweedFs, StorachaService, StorachaSpace,
};
use tokio::runtime::Runtime;

use super::fault::Fault;
use super::fault::Mend::Hand;
use super::fault::Status::Fails;
use super::fault::plant_each;
use super::machine::{Machine, SECRET, free_port, stub};
use crate::support::{peercache, run, stderr};

/// A SeaweedFS, and what may be put before it.
pub(super) struct Bucket {
    runtime: Runtime,
    server: SeaweedFs,
    proxy: FaultProxy,
}

impl Bucket {
    fn new() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(SeaweedFs::start()).unwrap()?;
        let proxy = runtime.block_on(FaultProxy::start(server.address())).unwrap();
        Some(Self { runtime, server, proxy })
    }

    fn machine(&mut self) -> Machine {
        self.proxy.set(Mode::Pass);
        let credentials = self.server.credentials();
        Machine::with(&[
            ("CACHE_SECRET", SECRET),
            ("CACHE_BACKEND", "memory,disk,s3"),
            ("AWS_S3_BUCKET", self.server.bucket()),
            ("AWS_ENDPOINT_URL_S3", &self.proxy.endpoint()),
            ("AWS_ACCESS_KEY_ID", credentials.id),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret),
        ])
    }

    fn endpoint(&mut self, machine: &mut Machine) {
        machine.set("AWS_ENDPOINT_URL_S3", self.proxy.endpoint());
    }

    fn credentials(&mut self, machine: &mut Machine) {
        machine.set("AWS_ACCESS_KEY_ID", self.server.credentials().id);
        machine.set("AWS_SECRET_ACCESS_KEY", self.server.credentials().secret);
    }
}

pub(super) const S3: &[Fault<Bucket>] = &[
    Fault {
        name: "a port where no S3 store listens",
        check: "s3",
        status: Fails,
        found: "the store did not answer",
        remedy: "see whether the endpoint is right and reachable from here",
        plant: |machine, _| machine.set("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{}", free_port())),
        mend: Hand(|machine, bucket| bucket.endpoint(machine)),
    },
    Fault {
        name: "the S3 store has stopped",
        check: "s3",
        status: Fails,
        found: "the store",
        remedy: "see whether the endpoint is right and reachable from here",
        plant: |machine, bucket| {
            machine.set("AWS_ENDPOINT_URL_S3", bucket.server.endpoint());
            bucket.server.kill();
        },
        mend: Hand(|_, bucket| bucket.runtime.block_on(bucket.server.restart()).unwrap()),
    },
    Fault {
        name: "an S3 store that hangs",
        check: "s3",
        status: Fails,
        found: "",
        remedy: "",
        plant: |_, bucket| bucket.proxy.set(Mode::Tarpit),
        mend: Hand(|_, bucket| bucket.proxy.set(Mode::Pass)),
    },
    Fault {
        name: "a wrong secret key",
        check: "s3",
        status: Fails,
        found: "the store refuses the signature: the secret key is wrong",
        remedy: "correct AWS_SECRET_ACCESS_KEY",
        plant: |machine, _| machine.set("AWS_SECRET_ACCESS_KEY", "a-secret-that-is-another"),
        mend: Hand(|machine, bucket| bucket.credentials(machine)),
    },
    Fault {
        name: "an access key that the store does not know",
        check: "s3",
        status: Fails,
        found: "the store does not know the access key",
        remedy: "correct AWS_ACCESS_KEY_ID",
        plant: |machine, _| machine.set("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        mend: Hand(|machine, bucket| bucket.credentials(machine)),
    },
    Fault {
        name: "S3 credentials that have expired",
        check: "s3",
        status: Fails,
        found: "the credentials have expired",
        remedy: "log in again",
        // SeaweedFS gives none that expire, so the proxy answers as AWS does to an old one.
        plant: |_, bucket| {
            let old = bucket.server.credentials().id.to_owned();
            bucket.proxy.set(Mode::AnswerTo(old, Answer::expired_token()));
        },
        mend: Hand(|machine, bucket| {
            machine.set("AWS_ACCESS_KEY_ID", bucket.server.renewed_credentials().id);
            machine.set("AWS_SECRET_ACCESS_KEY", bucket.server.renewed_credentials().secret);
        }),
    },
    Fault {
        name: "S3 credentials that may only read",
        check: "s3",
        status: Fails,
        found: "may not write",
        remedy: "or set CACHE_READ_ONLY=true if they are not to write",
        plant: |machine, bucket| {
            machine.set("AWS_ACCESS_KEY_ID", bucket.server.read_only_credentials().id);
            machine.set("AWS_SECRET_ACCESS_KEY", bucket.server.read_only_credentials().secret);
        },
        mend: Hand(|machine, _| machine.set("CACHE_READ_ONLY", "true")),
    },
    Fault {
        name: "no S3 credentials",
        check: "s3",
        status: Fails,
        found: "there are no credentials for the bucket",
        remedy: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        plant: |machine, _| {
            machine.unset("AWS_ACCESS_KEY_ID");
            machine.unset("AWS_SECRET_ACCESS_KEY");
            machine.set("AWS_EC2_METADATA_DISABLED", "true");
        },
        mend: Hand(|machine, bucket| bucket.credentials(machine)),
    },
];

#[test]
fn buckets_that_do_not_work_are_named_and_mended() {
    let Some(mut bucket) = Bucket::new() else { return };
    plant_each(&mut bucket, Bucket::machine, S3);
}

/// moto, which makes no bucket by itself as SeaweedFS does for who may.
pub(super) const MOTO: &[Fault<Moto>] = &[Fault {
    name: "a bucket that there is not",
    check: "s3",
    status: Fails,
    found: "the bucket does not exist",
    remedy: "create it, or correct AWS_S3_BUCKET",
    plant: |machine, _| machine.set("AWS_S3_BUCKET", "nobody-made-this"),
    mend: Hand(|machine, moto| machine.set("AWS_S3_BUCKET", moto.bucket())),
}];

#[test]
fn bucket_that_there_is_not_is_named_and_mended() {
    let runtime = Runtime::new().unwrap();
    let Some(mut moto) = runtime.block_on(Moto::start()).unwrap() else { return };
    let machine = |moto: &mut Moto| {
        Machine::with(&[
            ("CACHE_SECRET", SECRET),
            ("CACHE_BACKEND", "memory,disk,s3"),
            ("AWS_S3_BUCKET", moto.bucket()),
            ("AWS_ENDPOINT_URL_S3", &moto.endpoint()),
            ("AWS_ACCESS_KEY_ID", moto.credentials().id),
            ("AWS_SECRET_ACCESS_KEY", moto.credentials().secret),
        ])
    };
    plant_each(&mut moto, machine, MOTO);
}

/// A Redis server.
pub(super) struct Redis {
    runtime: Runtime,
    server: RedisServer,
}

impl Redis {
    fn new() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(RedisServer::start()).unwrap()?;
        Some(Self { runtime, server })
    }

    fn machine(&mut self) -> Machine {
        Machine::with(&[
            ("CACHE_SECRET", SECRET),
            ("CACHE_BACKEND", "memory,disk,redis"),
            ("REDIS_URL", &self.server.url()),
        ])
    }

    fn does(&mut self, words: &[&str]) {
        self.server.command(words).unwrap();
    }
}

fn takes_the_password_back(_: &mut Machine, redis: &mut Redis) {
    redis.server.command_with_password("a-word", &["CONFIG", "SET", "requirepass", ""]).unwrap();
}

pub(super) const REDIS: &[Fault<Redis>] = &[
    Fault {
        name: "Redis has stopped",
        check: "redis",
        status: Fails,
        found: "the server cannot be reached",
        remedy: "see whether REDIS_URL is right, and the server runs and is reachable from here",
        plant: |_, redis| redis.server.kill(),
        mend: Hand(|_, redis| redis.runtime.block_on(redis.server.restart()).unwrap()),
    },
    Fault {
        name: "Redis asks for a password (NOAUTH)",
        check: "redis",
        status: Fails,
        found: "the server asks for a password",
        remedy: "put it into REDIS_URL: redis://USER:PASSWORD@HOST",
        plant: |_, redis| redis.does(&["CONFIG", "SET", "requirepass", "a-word"]),
        mend: Hand(|machine, redis| {
            machine.set("REDIS_URL", redis.server.url_with_login("default", "a-word"));
        }),
    },
    Fault {
        name: "a wrong password of Redis (WRONGPASS)",
        check: "redis",
        status: Fails,
        found: "refuses the user name or the password",
        remedy: "correct them in REDIS_URL",
        // The fault before has set a password, and has left it there.
        plant: |machine, redis| {
            machine.set("REDIS_URL", redis.server.url_with_login("default", "another-word"));
        },
        mend: Hand(|machine, redis| {
            machine.set("REDIS_URL", redis.server.url_with_login("default", "a-word"));
        }),
    },
];

/// These need a server without a password again.
pub(super) const REDIS_OPEN: &[Fault<Redis>] = &[
    Fault {
        name: "the memory of Redis is full",
        check: "redis",
        status: Fails,
        found: "the server's memory is full, and its policy evicts nothing",
        remedy: "set maxmemory-policy to allkeys-lru",
        plant: |_, redis| {
            redis.does(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
            redis.does(&["CONFIG", "SET", "maxmemory", "1"]);
        },
        mend: Hand(|_, redis| {
            redis.does(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
            redis.does(&["CONFIG", "SET", "maxmemory", "0"]);
        }),
    },
    Fault {
        name: "Redis is a replica",
        check: "redis",
        status: Fails,
        found: "the server is a replica and takes no writes",
        remedy: "let REDIS_URL name the primary",
        plant: |_, redis| redis.does(&["REPLICAOF", "127.0.0.1", "9"]),
        mend: Hand(|_, redis| redis.does(&["REPLICAOF", "NO", "ONE"])),
    },
    Fault {
        name: "a database that Redis does not have",
        check: "redis",
        status: Fails,
        found: "the server does not have the database that REDIS_URL names",
        remedy: "name another one after the host, or none",
        plant: |machine, redis| machine.set("REDIS_URL", format!("{}/99", redis.server.url())),
        mend: Hand(|machine, redis| machine.set("REDIS_URL", redis.server.url())),
    },
    Fault {
        name: "a URL that is none of Redis",
        check: "settings",
        status: Fails,
        found: "REDIS_URL",
        remedy: "redis://",
        plant: |machine, redis| {
            machine.set("REDIS_URL", format!("http://{}", redis.server.address()));
        },
        mend: Hand(|machine, redis| machine.set("REDIS_URL", redis.server.url())),
    },
    Fault {
        name: "another service where Redis should be",
        check: "redis",
        status: Fails,
        found: "",
        remedy: "",
        plant: |machine, _| {
            let other = stub(|| "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned());
            machine.set("REDIS_URL", format!("redis://{other}"));
        },
        mend: Hand(|machine, redis| machine.set("REDIS_URL", redis.server.url())),
    },
];

#[test]
fn redis_that_does_not_work_is_named_and_mended() {
    let Some(mut redis) = Redis::new() else { return };
    let open = Redis::machine;
    plant_each(&mut redis, open, &REDIS[..2]);
    let with_password = |redis: &mut Redis| {
        let mut machine = redis.machine();
        machine.set("REDIS_URL", redis.server.url_with_login("default", "a-word"));
        machine
    };
    plant_each(&mut redis, with_password, &REDIS[2..]);
    takes_the_password_back(&mut Machine::new(), &mut redis);
    plant_each(&mut redis, open, REDIS_OPEN);
}

/// Two Kubo nodes, one of which asks for credentials.
pub(super) struct Ipfs {
    runtime: Runtime,
    open: Kubo,
    guarded: Kubo,
}

const LOGIN: &str = "basic:user:word";

impl Ipfs {
    fn new() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let open = runtime.block_on(Kubo::start(KuboOptions::default())).unwrap()?;
        let guarded = KuboOptions::default().authorized_by(LOGIN);
        let guarded = runtime.block_on(Kubo::start(guarded)).unwrap()?;
        Some(Self { runtime, open, guarded })
    }

    fn machine(&mut self) -> Machine {
        Machine::with(&[
            ("CACHE_SECRET", SECRET),
            ("CACHE_BACKEND", "memory,disk,ipfs"),
            ("IPFS_ALLOW_PRIVATE", "true"),
            ("IPFS_API", &self.open.api()),
        ])
    }
}

pub(super) const IPFS: &[Fault<Ipfs>] = &[
    Fault {
        name: "Kubo has stopped",
        check: "ipfs",
        status: Fails,
        found: "the IPFS node does not answer",
        remedy: "start it with `ipfs daemon`, or correct IPFS_API",
        plant: |_, ipfs| ipfs.open.kill(),
        mend: Hand(|_, ipfs| ipfs.runtime.block_on(ipfs.open.restart()).unwrap()),
    },
    Fault {
        name: "the gateway's port instead of the API's",
        check: "ipfs",
        status: Fails,
        found: "what listens at IPFS_API is not the RPC of a Kubo node",
        remedy: "name the port of Addresses.API (5001 by default), not the gateway's",
        plant: |machine, ipfs| {
            machine.set("IPFS_API", format!("/ip4/127.0.0.1/tcp/{}", ipfs.open.gateway().port()));
        },
        mend: Hand(|machine, ipfs| machine.set("IPFS_API", ipfs.open.api())),
    },
    Fault {
        name: "Kubo without pubsub",
        check: "ipfs",
        status: Fails,
        found: "the IPFS node runs without pubsub",
        remedy: "set Pubsub.Enabled, or unset IPFS_SYNC",
        plant: |machine, _| machine.set("IPFS_SYNC", "pubsub"),
        mend: Hand(|machine, _| machine.set("IPFS_SYNC", "")),
    },
    Fault {
        name: "Kubo asks for credentials",
        check: "ipfs",
        status: Fails,
        found: "the IPFS node asks for credentials",
        remedy: "set IPFS_API_AUTH to basic:USER:PASSWORD",
        plant: |machine, ipfs| machine.set("IPFS_API", ipfs.guarded.api()),
        mend: Hand(|machine, _| machine.set("IPFS_API_AUTH", LOGIN)),
    },
    Fault {
        name: "wrong credentials of Kubo",
        check: "ipfs",
        status: Fails,
        found: "the IPFS node refuses the credentials of IPFS_API_AUTH",
        remedy: "compare IPFS_API_AUTH with API.Authorizations of the node",
        plant: |machine, ipfs| {
            machine.set("IPFS_API", ipfs.guarded.api());
            machine.set("IPFS_API_AUTH", "basic:user:another");
        },
        mend: Hand(|machine, _| machine.set("IPFS_API_AUTH", LOGIN)),
    },
];

#[test]
fn ipfs_nodes_that_do_not_work_are_named_and_mended() {
    let Some(mut ipfs) = Ipfs::new() else { return };
    plant_each(&mut ipfs, Ipfs::machine, IPFS);
}

/// Storacha's service with a space, and one that nobody pays for.
pub(super) struct Space {
    runtime: Runtime,
    service: StorachaService,
    space: StorachaSpace,
    unpaid: StorachaSpace,
}

impl Space {
    fn new() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let service = runtime.block_on(StorachaService::start()).unwrap()?;
        let space = runtime.block_on(service.space()).unwrap();
        let unpaid = service.space_without_provider().unwrap();
        Some(Self { runtime, service, space, unpaid })
    }

    fn machine(&mut self) -> Machine {
        let mut machine = Machine::with(&[
            ("CACHE_SECRET", SECRET),
            ("CACHE_BACKEND", "memory,disk,storacha"),
            ("STORACHA_SERVICE_URL", &self.service.url()),
            ("STORACHA_ALLOW_PRIVATE", "true"),
        ]);
        machine.set("STORACHA_SERVICE_DID", self.service.did());
        machine.set("WEB3_STORAGE_TOKEN", token(&self.space));
        machine
    }
}

/// What `peercache storacha token` makes of a key and a proof.
fn token(space: &StorachaSpace) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, proof) = (file("key", &space.key), file("proof", &space.proof));
    let made = run(peercache(&["storacha", "token", "--key", &key, "--proof", &proof]), b"");
    assert!(made.status.success(), "{}", stderr(&made));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

pub(super) const STORACHA: &[Fault<Space>] = &[
    Fault {
        name: "a token of the web3.storage API",
        check: "settings",
        status: Fails,
        found: "this is a token of the web3.storage API, which was closed in 2024",
        remedy: "peercache storacha token",
        plant: |machine, _| {
            let legacy = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJkaWQ6ZXRocjoweDEyMyIsImlzcyI6IndlYjMt\
                          c3RvcmFnZSJ9.c2lnbmF0dXJl";
            machine.set("WEB3_STORAGE_TOKEN", legacy);
        },
        mend: Hand(|machine, space| machine.set("WEB3_STORAGE_TOKEN", token(&space.space))),
    },
    Fault {
        name: "Storacha has disabled writes",
        check: "storacha",
        status: Fails,
        found: "the service has disabled writes; what is stored can still be read",
        remedy: "or take `storacha` out of CACHE_BACKEND",
        plant: |_, space| space.runtime.block_on(space.service.take_writes(false)).unwrap(),
        mend: Hand(|_, space| space.runtime.block_on(space.service.take_writes(true)).unwrap()),
    },
    Fault {
        name: "a space that nobody pays for",
        check: "storacha",
        status: Fails,
        found: "the space has no provider, or its room is used up",
        remedy: "storacha space provision",
        plant: |machine, space| machine.set("WEB3_STORAGE_TOKEN", token(&space.unpaid)),
        mend: Hand(|_, space| {
            space.runtime.block_on(space.service.provision(&space.unpaid.did)).unwrap();
        }),
    },
    Fault {
        name: "another service than the one that is addressed",
        check: "storacha",
        status: Fails,
        found: "",
        remedy: "STORACHA_SERVICE_DID",
        plant: |machine, space| {
            assert_ne!(space.service.did(), "did:web:up.example.org");
            machine.set("STORACHA_SERVICE_DID", "did:web:up.example.org");
        },
        mend: Hand(|machine, space| machine.set("STORACHA_SERVICE_DID", space.service.did())),
    },
    Fault {
        name: "no service where Storacha's should be",
        check: "storacha",
        status: Fails,
        found: "the upload service cannot be reached",
        remedy: "check STORACHA_SERVICE_URL, and that the service runs",
        plant: |machine, _| machine.set("STORACHA_SERVICE_URL", format!("http://127.0.0.1:{}", free_port())),
        mend: Hand(|machine, space| machine.set("STORACHA_SERVICE_URL", space.service.url())),
    },
];

#[test]
fn storacha_that_does_not_work_is_named_and_mended() {
    let Some(mut space) = Space::new() else { return };
    plant_each(&mut space, Space::machine, STORACHA);
}
