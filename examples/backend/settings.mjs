// What the environment says. run.sh sets it from what `rowcast dev` reports.
for (const name of ['DATABASE_URL', 'JWT_SECRET']) {
  if (!process.env[name]) {
    console.error(`${name} is not set; run.sh sets it from what \`rowcast dev\` reports`)
    process.exit(2)
  }
}

export const { DATABASE_URL, ROWCAST_URL = 'http://127.0.0.1:4000', JWT_SECRET, HOST = '127.0.0.1', PORT = '3000' } = process.env
