//! Every message, as a user reads it.

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn target() -> Target {
    Target { bucket: "cache".to_owned(), addressing: Addressing::Path }
}

fn answer(status: u16, code: &str) -> Answer {
    Answer { status, code: code.to_owned(), ..Answer::default() }
}

fn told(answer: Answer, operation: Operation) -> (ErrorKind, Extent, String) {
    let (error, extent) = RequestError::Answer(Box::new(answer)).explain(operation, &target(), NOW);
    (error.kind(), extent, error.to_string())
}

fn text(answer: Answer) -> String {
    told(answer, Operation::Get).2
}

#[test]
fn each_mistake_has_a_message_of_its_own() {
    insta::assert_snapshot!(text(answer(404, "NoSuchBucket")), @"s3: get failed (configuration): the bucket does not exist [bucket=cache, status=404, code=NoSuchBucket]; create it, or correct AWS_S3_BUCKET (and the endpoint, where one is set)");
    insta::assert_snapshot!(text(answer(403, "SignatureDoesNotMatch")), @"s3: get failed (denied): the store refuses the signature: the secret key is wrong [bucket=cache, status=403, code=SignatureDoesNotMatch]; correct AWS_SECRET_ACCESS_KEY: copied whole, and without a line break");
    insta::assert_snapshot!(text(answer(403, "InvalidAccessKeyId")), @"s3: get failed (denied): the store does not know the access key [bucket=cache, status=403, code=InvalidAccessKeyId]; correct AWS_ACCESS_KEY_ID; temporary keys also need AWS_SESSION_TOKEN");
    insta::assert_snapshot!(text(answer(400, "ExpiredToken")), @"s3: get failed (denied): the credentials have expired [bucket=cache, status=400, code=ExpiredToken]; log in again; a job that runs for longer than its login needs a longer one, or a role that renews itself");
    insta::assert_snapshot!(text(answer(400, "InvalidToken")), @"s3: get failed (denied): the store refuses the session token [bucket=cache, status=400, code=InvalidToken]; AWS_SESSION_TOKEN must belong to the access key, or be unset");
    insta::assert_snapshot!(text(answer(403, "AccessDenied")), @"s3: get failed (denied): these credentials may not read the object [bucket=cache, status=403, code=AccessDenied]; allow s3:GetObject on the objects and s3:ListBucket on the bucket: without the second, a missing object is answered like this too");
    insta::assert_snapshot!(text(answer(301, "PermanentRedirect")), @"s3: get failed (configuration): the bucket is in another region [bucket=cache, status=301, code=PermanentRedirect]; set AWS_REGION to the bucket's region");
    let malformed = Answer {
        message:
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
                .to_owned(),
        ..answer(400, "AuthorizationHeaderMalformed")
    };
    insta::assert_snapshot!(text(malformed), @"s3: get failed (configuration): the bucket is in another region [bucket=cache, status=400, code=AuthorizationHeaderMalformed, region=eu-west-1]; set AWS_REGION=eu-west-1");
    let skewed = Answer {
        date: Some("Fri, 15 Jan 2027 07:00:00 GMT".to_owned()),
        ..answer(403, "RequestTimeTooSkewed")
    };
    insta::assert_snapshot!(text(skewed), @"s3: get failed (configuration): this machine's clock differs too much from the store's [bucket=cache, status=403, code=RequestTimeTooSkewed, seconds-ahead=3600]; set the clock, or let it be set by a time server");
    insta::assert_snapshot!(text(answer(500, "InternalError")), @"s3: get failed (unavailable): the store could not serve the request [bucket=cache, status=500, code=InternalError]");
    insta::assert_snapshot!(text(answer(405, "MethodNotAllowed")), @"s3: get failed (unsupported): the store refused the request [bucket=cache, status=405, code=MethodNotAllowed]");
}

#[test]
fn what_is_not_an_answer_is_told_as_well() {
    let text =
        |request_error: RequestError| request_error.explain(Operation::Probe, &target(), NOW).0.to_string();
    insta::assert_snapshot!(text(RequestError::NoAnswer("Connection refused (os error 111)".to_owned())), @"s3: probe failed (unavailable): the store did not answer [cause=Connection refused (os error 111)]; see whether the endpoint is right and reachable from here");
    insta::assert_snapshot!(text(RequestError::ConnectTimeout), @"s3: probe failed (timeout): no connection to the store could be made in time; see whether the endpoint is right and reachable from here");
    insta::assert_snapshot!(text(RequestError::NoCredentials("no providers in chain provided credentials".to_owned())), @"s3: probe failed (configuration): there are no credentials for the bucket [cause=no providers in chain provided credentials]; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with a role (in GitHub Actions: aws-actions/configure-aws-credentials)");
    insta::assert_snapshot!(text(RequestError::BadCredentialSource("x".to_owned())), @"s3: probe failed (configuration): the source of the credentials is set up wrongly [cause=x]; see AWS_PROFILE, ~/.aws/config and ~/.aws/credentials");
    insta::assert_snapshot!(text(RequestError::CredentialSourceDown("x".to_owned())), @"s3: probe failed (unavailable): what gives the credentials did not answer [cause=x]");
    insta::assert_snapshot!(text(RequestError::Unsendable("x".to_owned())), @"s3: probe failed (configuration): the request could not be made [cause=x]; see the endpoint, the region and the name of the bucket");
    insta::assert_snapshot!(text(RequestError::TooLong(9, None)), @"s3: probe failed (corrupt): the object is larger than any entry [bytes=9]");
}

#[test]
fn refusals_of_everything_are_told_from_those_of_one_request() {
    let extent = |status, code, operation| told(answer(status, code), operation).1;
    for code in ["SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken"] {
        assert_eq!(extent(403, code, Operation::Get), Extent::Credentials, "{code}");
    }
    for (status, code) in [(404, "NoSuchBucket"), (301, "PermanentRedirect"), (403, "RequestTimeTooSkewed")] {
        assert_eq!(extent(status, code, Operation::Get), Extent::All, "{code}");
    }
    for (status, code) in [(403, "AccessDenied"), (500, "InternalError"), (503, "ServiceUnavailable")] {
        assert_eq!(extent(status, code, Operation::Put), Extent::Request, "{code}");
    }
}

#[test]
fn a_write_waits_for_new_credentials_and_not_for_right_ones() {
    let waits = |code| {
        let (error, _) =
            RequestError::Answer(Box::new(answer(403, code))).explain(Operation::Put, &target(), NOW);
        error.is_retryable()
    };
    assert!(waits("ExpiredToken") && waits("TokenRefreshRequired"));
    assert!(!waits("SignatureDoesNotMatch") && !waits("InvalidAccessKeyId") && !waits("AccessDenied"));
}

#[test]
fn how_long_to_wait_is_read_in_both_forms() {
    let wait = |text: &str, date: Option<&str>| {
        let answer = Answer {
            retry_after: Some(text.to_owned()),
            date: date.map(str::to_owned),
            ..answer(503, "SlowDown")
        };
        told(answer, Operation::Get).1
    };
    let seconds = |seconds| Extent::Throttled(Some(Duration::from_secs(seconds)));
    assert_eq!(wait("7", None), seconds(7));
    // NOW is 08:00:00 on that day; the store's own clock may be behind ours.
    assert_eq!(wait("Fri, 15 Jan 2027 08:00:30 GMT", None), seconds(30));
    assert_eq!(wait("Fri, 15 Jan 2027 08:00:30 GMT", Some("Fri, 15 Jan 2027 07:59:00 GMT")), seconds(90));
    assert_eq!(wait("Fri, 15 Jan 2027 07:00:00 GMT", None), seconds(0));
    assert_eq!(wait("soon", None), Extent::Throttled(None));
    for (status, code) in [(429, ""), (503, "SlowDown"), (400, "RequestLimitExceeded")] {
        let (kind, extent, _) = told(answer(status, code), Operation::Get);
        assert_eq!((kind, extent), (ErrorKind::RateLimited, Extent::Throttled(None)), "{status} {code}");
    }
}

#[test]
fn what_comes_from_the_store_cannot_steer_the_message() {
    let sly = Answer { region: Some("eu; rm -rf".to_owned()), ..answer(301, "PermanentRedirect") };
    assert!(!text(sly).contains("-rf"));
}

#[test]
fn wrong_addressing_of_the_bucket_is_named_with_the_setting_that_mends_it() {
    let host = Target { addressing: Addressing::Host, ..target() };
    let text =
        |error: RequestError, target: &Target| error.explain(Operation::Get, target, NOW).0.to_string();
    let answered = |status, code| RequestError::Answer(Box::new(answer(status, code)));
    insta::assert_snapshot!(text(answered(403, "SecondLevelDomainForbidden"), &target()), @"s3: get failed (configuration): the store does not take the bucket in the path of a request [bucket=cache, status=403, code=SecondLevelDomainForbidden]; set CACHE_S3_PATH_STYLE=false");
    assert!(text(answered(404, "NoSuchBucket"), &host).ends_with("set CACHE_S3_PATH_STYLE=true"));
    for unreachable in [RequestError::NoAnswer("dns error".to_owned()), RequestError::ConnectTimeout] {
        let text = text(unreachable, &host);
        assert!(text.ends_with("if the store has no such name, set CACHE_S3_PATH_STYLE=true"), "{text}");
    }
}
