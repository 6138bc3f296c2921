//! Docker Compose for the test of `deploy/compose.yaml`: Debian's, in Python, unpacked with what it
//! needs beyond an interpreter.

use std::path::Path;

use crate::failure::Failure;
use crate::fetch::Debian;
use crate::run;

/// Names the folder: the version of docker-compose.
pub(crate) const VERSION: &str = PACKAGES[0].version;

const PACKAGES: [Debian; 20] = [
    Debian::new(
        "docker-compose",
        "1.29.2-3",
        "440943efa28c1fa6c785c61de98413dcf6ba9052e712199f1b0be7a08d4b4963",
    ),
    Debian::new(
        "python3-attr",
        "22.2.0-1",
        "6a12ea96a8a909445a982975279f96d7b9a1ff96c912efff39abc8d92372694a",
    ),
    Debian::new(
        "python3-certifi",
        "2022.9.24-1",
        "121abb6d0af69b57ce7202be38b2db9150e5d627bbaab6c17fe10650d2ced4fc",
    ),
    Debian::new(
        "python3-chardet",
        "5.1.0+dfsg-2",
        "271227b4ca709db673d8bff58b64f4a590ab17b50a9616d49aacc459bbd05f85",
    ),
    Debian::new(
        "python3-charset-normalizer",
        "3.0.1-2",
        "f547a25ac5349111ef4ea0c54654cf72fed48193eaf1c658f9309aff3715cd38",
    ),
    Debian::new(
        "python3-distro",
        "1.8.0-1",
        "764ead4bd7ab1db72c9c670e0c6ac19c21f31c289b745d91a8a7a43e9901adf6",
    ),
    Debian::new(
        "python3-docker",
        "5.0.3-1",
        "1870464a9429f2fd3b4edc47c0292de7b39872675e9865363d01f43ff7d72c0c",
    ),
    Debian::new(
        "python3-dockerpty",
        "0.4.1-4",
        "7e234b4a3af5e6e622babf2b74b2ae3d617ac2117782cdc03c02a56a36632297",
    ),
    Debian::new(
        "python3-docopt",
        "0.6.2-4.1",
        "dd8bfc7bdf1902c994eb5ccfe8b23e994ee678005c03868ee5871b6bb34a636c",
    ),
    Debian::new(
        "python3-dotenv",
        "0.21.0-1",
        "2eaee606ea70cdecc51f5ab9e3f9fd567f9df37c4c85d38aab8377a22b3eee3c",
    ),
    Debian::new(
        "python3-idna",
        "3.3-1+deb12u1",
        "0bf81fb1906d3aa607482d09aa3bcbab5c263242b1fd1d93be39658fa783af1a",
    ),
    Debian::new(
        "python3-jsonschema",
        "4.10.3-1",
        "b972212ff557ba07138b4aa7b7e2eb227260eb3fe3fac8e699a0e4b006b0ebc3",
    ),
    Debian::new(
        "python3-pyrsistent",
        "0.18.1-1+b3",
        "da9ab57e7889af9d077bbcf50fd7f3f29beb6e8f29b2d828324e971d34d463b3",
    ),
    Debian::new(
        "python3-requests",
        "2.28.1+dfsg-1",
        "c75b5c05d8d4a813bd83c3d432ffe65a2ca13e771bc91d4b9787690097598603",
    ),
    Debian::new(
        "python3-six",
        "1.16.0-4",
        "fd189e9cecbcf17a1fc20aec30055c8afa9c1eec00cd6e7ab385087a2ab3b0d3",
    ),
    Debian::new(
        "python3-texttable",
        "1.6.7-1",
        "e7c27ff901a6551fd337d888f9ef3d5bed1e2110c319f4c15c9fe8682d40c65c",
    ),
    Debian::new(
        "python3-urllib3",
        "1.26.12-1+deb12u4",
        "9dd6fef10317e437f2195cb5ea8b38d8e39e02106c5fda7b16d58b4bb9a85886",
    ),
    Debian::new(
        "python3-websocket",
        "1.2.3-1",
        "18ecef178ef54685305fffd03c9d7fca2d73451bd51e0f93921e4006099a0c7d",
    ),
    Debian::new(
        "python3-yaml",
        "6.0-3+b2",
        "8d0db0b3099298fe039b94e4c52a6987798a90d23b80de3ac13c3cb75cf622a2",
    ),
    Debian::new("libyaml-0-2", "0.2.5-1", "207b539919a47c85bcf738677f0ccf5bbac9844f2d3f158696f518be4c4ba6c4"),
];

/// Unpacks it into `dir`. Its modules are for the Python of Debian 12, which is not brought.
pub(crate) fn unpack(dir: &Path) -> Result<(), Failure> {
    if run::on_path("python3.11").is_none() {
        return Err(Failure::new("there is no python3.11", "use Debian 12, whose Python it is"));
    }
    Debian::unpack_all(&PACKAGES, dir)
}
