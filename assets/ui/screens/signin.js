// Asks for user and password, in the page's own form: the browser's prompt cannot be left.
import { html, useState } from "../html.js";
import { refusal, signIn } from "../state.js";

export function SignIn() {
  const [user, setUser] = useState("admin");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    await signIn(user, password);
    setBusy(false);
  };
  return html`
    <main class="alone" id="main">
      <form class="signin" onSubmit=${submit} aria-labelledby="signin-title">
        <img src="logo.svg" alt="" width="48" height="48" />
        <h1 id="signin-title" tabindex="-1">Sign in to faas-gateway</h1>
        <p class="muted">User and password are kept until this tab is closed.</p>
        <div class="field"><label for="user">User</label>
          <input id="user" name="username" autocomplete="username" required value=${user} spellcheck="false" autocapitalize="none"
            onInput=${(/** @type {any} */ event) => setUser(event.currentTarget.value)} /></div>
        <div class="field"><label for="password">Password</label>
          <input id="password" name="password" type="password" autocomplete="current-password" required autofocus value=${password} aria-describedby="signin-error"
            onInput=${(/** @type {any} */ event) => setPassword(event.currentTarget.value)} /></div>
        <p id="signin-error" class="error" role="alert">${refusal.value}</p>
        <button class="primary" aria-busy=${busy ? "true" : undefined}>Sign in</button>
      </form>
    </main>`;
}
