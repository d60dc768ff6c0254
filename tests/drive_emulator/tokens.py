"""OAuth 2: access tokens for service accounts (signed JWT) and users (refresh token), and who shows which."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any
from urllib.parse import parse_qs

from tests.drive_emulator.answering import Answering
from tests.drive_emulator.state import DriveError

SCOPE = "https://www.googleapis.com/auth/drive"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Tokens(Answering):
    """Gives out tokens and checks them."""

    def _token(self) -> None:
        told, now = self.state.configuration, time.time()
        form = {key: values[-1] for key, values in parse_qs(self._body().decode()).items()}
        if told["invalid_grant"]:
            self._reply(400, {"error": "invalid_grant", "error_description": told["invalid_grant"]})
            return
        grant, scope = form.get("grant_type"), told["refresh_scope"]
        if grant == JWT_GRANT:
            claims = self._claims(form.get("assertion", ""))
            if claims is None or claims.get("iss") != told["client_email"]:
                self._reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
                return
            if not float(claims.get("iat", 0)) - 300 <= now < float(claims.get("exp", 0)):
                description = (
                    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
                )
                self._reply(400, {"error": "invalid_grant", "error_description": description})
                return
            if not claims.get("scope"):
                self._reply(400, {"error": "invalid_scope", "error_description": "Empty or missing scope not allowed."})
                return
            who, scope = told["client_email"], claims["scope"]
        elif grant == "refresh_token":
            if (form.get("client_id"), form.get("client_secret")) != (told["client_id"], told["client_secret"]):
                self._reply(401, {"error": "invalid_client", "error_description": "The OAuth client was not found."})
                return
            if form.get("refresh_token") != told["refresh_token"]:
                description = "Token has been expired or revoked."
                self._reply(400, {"error": "invalid_grant", "error_description": description})
                return
            who = told["user_email"]
        else:
            self._reply(400, {"error": "unsupported_grant_type", "error_description": f"Invalid grant_type: {grant}"})
            return
        lifetime = told["token_lifetime"]
        token = self._signed({"sub": who, "scope": scope, "exp": now + lifetime, "gen": told["token_generation"]})
        self._reply(200, {"access_token": token, "expires_in": int(lifetime), "token_type": "Bearer", "scope": scope})

    def _claims(self, assertion: str) -> dict[str, Any] | None:
        """What a JWT says, where the service account's key signed it."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding

        key: Any = serialization.load_pem_public_key(self.state.configuration["public_key"].encode())
        try:
            head, claims, signature = assertion.split(".")
            key.verify(_unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
            told: dict[str, Any] = json.loads(_unpadded(claims))
        except (InvalidSignature, ValueError):
            return None
        return told

    def _signed(self, told: dict[str, Any]) -> str:
        text = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
        return f"ya29.{text}.{self._mac(text)}"

    def _mac(self, text: str) -> str:
        return hmac.new(self.state.configuration["secret"].encode(), text.encode(), "sha256").hexdigest()[:32]

    def _authorise(self) -> None:
        """Who asks; DriveError 401."""
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        name, _, rest = token.partition(".")
        text, _, mac = rest.partition(".")
        invalid = DriveError(401, "authError", "Invalid Credentials", location="Authorization")
        if kind != "Bearer" or name != "ya29" or not hmac.compare_digest(mac, self._mac(text)):
            raise invalid
        told = json.loads(_unpadded(text))
        if told["exp"] <= time.time() or told["gen"] != self.state.configuration["token_generation"]:
            raise invalid
        self.caller: str = told["sub"]
        self.scopes: list[str] = told["scope"].split()
        if not any(scope.startswith(SCOPE) for scope in self.scopes):
            raise DriveError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
