//! DescribeUserScramCredentials and AlterUserScramCredentials. What is told of a credential is its
//! mechanism and iterations, nothing more. KIP-554. Shell.

use std::collections::{BTreeMap, BTreeSet};

use protocol::api::scram::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlteredScramUser,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, DescribedScramUser,
    ScramCredentialInfo,
};
use protocol::error_code::ErrorCode;
use protocol::sasl::Hash;
use protocol::sasl::scram::Credential;

use crate::controller::{AlterCredential, ControllerHandle, SaltedPassword};
use crate::metadata::Image;

/// Describes the credentials of the users that are asked for.
pub(crate) fn describe(
    image: &Image,
    request: &DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let asked: Vec<&str> = request.users.iter().flatten().map(|user| user.name.as_str()).collect();
    let all: BTreeMap<&str, &BTreeMap<Hash, Credential>> = image.credentials().collect();
    let results = if asked.is_empty() {
        all.iter().map(|(name, own)| described(name, Ok(own))).collect()
    } else {
        let mut seen = BTreeSet::new();
        let repeated: BTreeSet<&str> =
            asked.iter().copied().filter(|name| !seen.insert(*name)).collect();
        let result = |name: &str| {
            if repeated.contains(name) {
                let words = "cannot describe the credentials of a user twice in one request";
                return described(name, Err((ErrorCode::DuplicateResource, words)));
            }
            let words = "attempt to describe a user credential that does not exist";
            described(name, all.get(name).copied().ok_or((ErrorCode::ResourceNotFound, words)))
        };
        seen.into_iter().map(result).collect()
    };
    DescribeUserScramCredentialsResponse {
        error_message: Some(String::new()),
        results,
        ..DescribeUserScramCredentialsResponse::default()
    }
}

fn described(
    name: &str,
    found: Result<&BTreeMap<Hash, Credential>, (ErrorCode, &str)>,
) -> DescribedScramUser {
    let info = |(hash, own): (&Hash, &Credential)| ScramCredentialInfo {
        mechanism: hash.to_wire(),
        iterations: i32::try_from(own.iterations).unwrap_or(i32::MAX),
    };
    let (code, words, infos) = match found {
        // Of success Kafka says nothing: by an empty text here, by null where something changes.
        Ok(own) => (ErrorCode::None, String::new(), own.iter().map(info).collect()),
        Err((code, words)) => (code, format!("{words}: {name}"), Vec::new()),
    };
    DescribedScramUser {
        user: name.to_owned(),
        error_code: code.to_wire(),
        error_message: Some(words),
        credential_infos: infos,
    }
}

/// Sets and removes credentials.
pub(crate) async fn alter(
    controller: &ControllerHandle,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let AlterUserScramCredentialsRequest { deletions, upsertions } = request;
    let deletions = deletions.into_iter().map(|it| AlterCredential {
        user: it.name,
        mechanism: it.mechanism,
        set: None,
    });
    let upsertions = upsertions.into_iter().map(|it| AlterCredential {
        user: it.name,
        mechanism: it.mechanism,
        set: Some(SaltedPassword {
            salt: it.salt.to_vec(),
            salted: it.salted_password.to_vec(),
            iterations: it.iterations,
        }),
    });
    let alterations: Vec<_> = deletions.chain(upsertions).collect();
    let users: BTreeSet<String> = alterations.iter().map(|it| it.user.clone()).collect();
    let altered = controller.alter_credentials(alterations).await;
    let result = |user: String| {
        let refusal = match &altered {
            Ok(altered) => {
                let own = altered.get(&user).expect("one answer per user");
                own.as_ref().err().map(|error| (error.code(), error.to_string()))
            }
            Err(error) => Some((error.code(), error.to_string())),
        };
        let (code, error_message) = refusal.unzip();
        let error_code = code.unwrap_or(ErrorCode::None).to_wire();
        AlteredScramUser { user, error_code, error_message }
    };
    let results = users.into_iter().map(result).collect();
    AlterUserScramCredentialsResponse { throttle_time_ms: 0, results }
}
