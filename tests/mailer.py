"""A mailer as a program: smtplib, one message after the other, nothing ever again.

``python mailer.py HOST PORT USER SECRET CA [MESSAGES]``; with ``token`` before the secret it logs in by XOAUTH2.
"""

import smtplib
import ssl
import sys


def main(host: str, port: str, user: str, secret: str, ca: str, messages: str = "6") -> None:
    with smtplib.SMTP(host, int(port), "client.example", timeout=20) as client:
        client.starttls(context=ssl.create_default_context(cafile=ca))
        client.login(user, secret)
        for number in range(int(messages)):
            text = f"From: <{user}>\r\nMessage-ID: <us-{number}@sendlab.example>\r\n\r\nhello\r\n"
            client.sendmail(user, ["to@them.example"], text)


main(*sys.argv[1:])
