// The peer of the upload bench: @tus/server with its file store, as its documentation shows it.
// With VERIFY=1 it does afterwards what Spoolhouse does before it answers: fsync, read back, sha256.
// Prints its port once it listens.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Server } from '@tus/server'
import { FileStore } from '@tus/file-store'

const directory = process.argv[2]
const options = { path: '/files', datastore: new FileStore({ directory }) }
if (process.env.VERIFY === '1') {
  options.onUploadFinish = async (_, upload) => {
    const path = join(directory, upload.id)
    const file = await open(path, 'r')
    await file.sync()
    await file.close()
    const hash = createHash('sha256')
    await pipeline(createReadStream(path, { highWaterMark: 4 * 2 ** 20 }), hash)
    return { headers: { 'Upload-Sha256': hash.digest('hex') } }
  }
}
const server = new Server(options).listen({ host: '127.0.0.1', port: 0 }, () => console.log(server.address().port))
