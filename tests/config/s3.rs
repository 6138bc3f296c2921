//! The settings of the S3 tier: when they count, what they open, and what their mistakes say.

use insta::assert_snapshot;
use peercache::config::ConfigBuilder;
use peercache::seal::Secret;

use crate::read;

const BUCKET: (&str, &str) = ("AWS_S3_BUCKET", "team-cache");
/// Nobody answers there, and nobody has to: opening sends nothing.
const STORE: (&str, &str) = ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9");

fn tiers(vars: &[(&str, &str)]) -> String {
    let config = read(vars).unwrap();
    config.backends().iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",")
}

async fn refused(vars: &[(&str, &str)]) -> String {
    let text = read(vars).unwrap().open().await.unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn auto_takes_it_where_a_bucket_is_named() {
    for bucket in [BUCKET, ("CACHE_S3_BUCKET", "b"), ("S3_BUCKET", "b")] {
        assert_eq!(tiers(&[bucket]), "memory,disk,s3", "{bucket:?}");
    }
    assert!(read(&[BUCKET]).unwrap().warnings().is_empty());
    assert_eq!(tiers(&[("S3_PREFIX", "ci"), STORE]), "memory,disk", "they say nothing without a bucket");
    assert_eq!(tiers(&[BUCKET, ("CACHE_BACKEND", "s3")]), "memory,disk,s3");
    assert_eq!(tiers(&[BUCKET, ("CACHE_BACKEND", "memory")]), "memory", "a list is a list");
}

#[tokio::test]
async fn mistakes() {
    let error = read(&[("CACHE_BACKEND", "memory,s3")]).unwrap_err();
    assert_snapshot!(error, @r#"CACHE_BACKEND="memory,s3": the list asks for `s3`, and no bucket is named; set AWS_S3_BUCKET to the name of a bucket, or leave `s3` out of the list"#);
    let error = read(&[("CACHE_S3_PATH_STYLE", "1")]).unwrap_err();
    assert_snapshot!(error, @r#"CACHE_S3_PATH_STYLE="1": this is neither true nor false; give true or false"#);
    let memory = ("CACHE_BACKEND", "memory,s3");
    assert_snapshot!(refused(&[BUCKET, STORE, memory]).await, @"CACHE_SECRET: a bucket shares entries with other machines, and there is no secret to seal them with; make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set CACHE_BACKEND=memory,disk to do without the bucket (CACHE_INSECURE_PLAINTEXT=true shares in clear, with whoever may read the bucket)");
}

/// Each names the setting that is wrong, as it was made, and not the bucket.
#[tokio::test]
async fn mistakes_of_what_is_opened() {
    let usual = [("CACHE_BACKEND", "memory,s3"), ("CACHE_INSECURE_PLAINTEXT", "true")];
    let refused = async |wrong: &[(&str, &str)]| refused(&[wrong, &usual].concat()).await;
    assert_snapshot!(refused(&[("AWS_S3_BUCKET", "s3://team/cache"), STORE]).await, @r#"AWS_S3_BUCKET="s3://team/cache": the bucket's name is not one; give the name alone, without s3:// and path: lower-case letters, digits, `-` and `.`"#);
    assert_snapshot!(refused(&[("S3_BUCKET", "team cache"), STORE]).await, @r#"S3_BUCKET="team cache": the bucket's name is not one; give the name alone, without s3:// and path: lower-case letters, digits, `-` and `.`"#);
    assert_snapshot!(refused(&[BUCKET, STORE, ("S3_PREFIX", "ci//main")]).await, @r#"S3_PREFIX="ci//main": the prefix has an empty part, `.` or `..`; choose a prefix of letters, digits, `-`, `_`, `.` and `/`"#);
    assert_snapshot!(refused(&[BUCKET, ("AWS_ENDPOINT_URL_S3", "store.example.net:9000")]).await, @r#"AWS_ENDPOINT_URL_S3="store.example.net:9000": the endpoint is not a URL of a store; it begins with http:// or https:// and has a host, and no user, password or query"#);
    assert_snapshot!(refused(&[BUCKET, ("S3_ENDPOINT", "http://user:word@store.example.net/?x")]).await, @r#"S3_ENDPOINT="http://…@store.example.net/?x": the endpoint is not a URL of a store; it begins with http:// or https:// and has a host, and no user, password or query"#);
    assert_snapshot!(refused(&[BUCKET, STORE, ("AWS_REGION", "eu central")]).await, @r#"AWS_REGION="eu central": the region is not one; give something like eu-central-1"#);
}

#[tokio::test]
async fn a_mistake_in_the_file_is_where_it_was_made() {
    let file = "s3_bucket = \"team-cache\"\ns3_region = \"eu/central\"\n";
    let config =
        ConfigBuilder::new("peercache").file_text("peercache.toml", file).read_vars(|_| None).unwrap();
    let error = config.bucket().await.unwrap_err();
    assert_eq!(error.variable(), "AWS_REGION");
    assert_snapshot!(error, @r#"peercache.toml:2: s3_region = "eu/central": the region is not one; give something like eu-central-1"#);
}

/// Sealed, written behind with a journal, and told of in the report, though the store is away.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_is_what_opens() {
    let dir = tempfile::tempdir().unwrap();
    let secret = Secret::generate().unwrap().to_text();
    let vars = [BUCKET, STORE, ("S3_PREFIX", "ci"), ("CACHE_SECRET", &*secret)];
    let config = ConfigBuilder::new("peercache").dir(dir.path()).without_file();
    let config = config.read_vars(|name| vars.iter().find(|var| var.0 == name).map(|var| var.1.to_owned()));
    let cache = config.unwrap().open().await.unwrap();
    let report = cache.report();
    let tiers: Vec<_> = report.chain.tiers.iter().map(|tier| (tier.name.as_str(), tier.scope)).collect();
    assert_eq!(tiers, [("memory", "local"), ("sealed(disk)", "local"), ("sealed(s3)", "shared")]);
    assert!(report.chain.journal.unwrap().sealed);
    let s3 = &report.backends["s3"];
    assert_eq!((&s3["bucket"], &s3["prefix"]), (&"team-cache".into(), &"ci/".into()));
    assert_eq!(s3["requests"]["get"], 0, "opening sends nothing");
}
