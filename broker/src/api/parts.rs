//! Requests of several parts, each with an answer of its own.
//!
//! Parts that make no sense are refused where they are read; the others are asked about in one go,
//! and all answers stand in the order of the request. Shell.

use protocol::error_code::ErrorCode;

use crate::controller::ControllerError;

/// A code and the words for it.
pub(super) type Refusal = (ErrorCode, String);

/// What becomes of each part: why it makes no sense, or what `ask` answers to it among all that
/// make sense. Nobody is asked of none.
pub(super) async fn answers<T, R, F>(
    parsed: impl IntoIterator<Item = Result<T, Refusal>>,
    ask: impl FnOnce(Vec<T>) -> F,
) -> Vec<Result<R, Refusal>>
where
    F: Future<Output = Result<Vec<R>, ControllerError>>,
{
    let mut lawful = Vec::new();
    let refused: Vec<Option<Refusal>> =
        parsed.into_iter().map(|it| it.map(|it| lawful.push(it)).err()).collect();
    let asked = if lawful.is_empty() { Ok(Vec::new()) } else { ask(lawful).await };
    let mut answered = asked.map(Vec::into_iter).map_err(|error| (error.code(), error.to_string()));
    let mut next = || match &mut answered {
        Ok(answered) => Ok(answered.next().expect("one answer for each part that was asked of")),
        Err(refusal) => Err(refusal.clone()),
    };
    refused.into_iter().map(|refusal| refusal.map_or_else(&mut next, Err)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> Refusal {
        (ErrorCode::InvalidRequest, words.to_owned())
    }

    #[tokio::test]
    async fn each_part_has_the_answer_to_itself_in_the_order_of_the_request() {
        let parsed = [Ok(1), Err(refused("a")), Ok(2), Err(refused("b"))];
        let double = |parts: Vec<i32>| async move {
            assert_eq!(parts, [1, 2]);
            Ok(parts.into_iter().map(|it| it * 2).collect())
        };
        let told: Vec<Result<i32, Refusal>> = answers(parsed, double).await;
        assert_eq!(told, [Ok(2), Err(refused("a")), Ok(4), Err(refused("b"))]);
    }

    #[tokio::test]
    async fn where_nothing_makes_sense_nobody_is_asked() {
        let nobody = |_: Vec<i32>| async { unreachable!("there is nothing to ask of") };
        let told: Vec<Result<i32, Refusal>> = answers([Err(refused("a"))], nobody).await;
        assert_eq!(told, [Err(refused("a"))]);
    }
}
