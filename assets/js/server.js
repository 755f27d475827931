// Answers of the server functions of components.

const NO_ANSWER = "The page got no answer from its server: check the connection and try again.";

/**
 * The answer of a server function. Gradio's client gives undefined where none has come; that becomes an error, too.
 * @template {object} Answer
 * @param {Promise<Answer | ErrorPayload | undefined>} call
 * @returns {Promise<Answer | ErrorPayload>}
 */
export async function answerOf(call) {
  return (await call) ?? { error: NO_ANSWER };
}
