// Copyright (c) 2026, The pvecri authors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The peer of the endpoint's SPDY, on the npm package spdy-transport (found through NODE_PATH).
//
//   node peer.js client PORT   open an exec session on a loopback port: standard input goes to its stdin
//                              stream, its stdout and error streams go to standard output and error
//   node peer.js server        listen on a loopback port, print it, and send every stream back, headers first

'use strict'

const net = require('net')
const transport = require('spdy-transport')

function speak (socket, isServer) {
  const connection = transport.connection.create(socket, { protocol: 'spdy', isServer })
  // The package wants HTTP's status in every answer; streams of Kubernetes have none.
  const handle = connection._handleFrame
  connection._handleFrame = function (frame) {
    if (frame.type === 'HEADERS' && !isServer) { frame.headers[':status'] = '200' }
    handle.call(this, frame)
  }
  connection.start(3.1)
  return connection
}

function fail (error) {
  console.error(String(error))
  process.exit(1)
}

function client (port) {
  const socket = net.connect(port, '127.0.0.1')
  socket.on('error', fail)
  socket.write('POST /exec/token HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
               'X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n')
  let head = Buffer.alloc(0)
  socket.on('data', function read (chunk) {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) { return }
    socket.removeListener('data', read)
    socket.pause()
    if (!head.toString().startsWith('HTTP/1.1 101 ')) { fail(head) }
    socket.unshift(head.subarray(end + 4))
    session(speak(socket, false))
  })
}

function session (connection) {
  const open = (kind) => connection.request({ path: '/', headers: { streamtype: kind } }, (error) => error && fail(error))
  const [error, stdin, stdout] = ['error', 'stdin', 'stdout'].map(open)
  connection.on('error', fail)
  process.stdin.pipe(stdin)
  stdout.pipe(process.stdout)
  error.pipe(process.stderr)
  stdin.resume()
  let left = 2
  for (const stream of [error, stdout]) {
    stream.on('end', () => { if (--left === 0) { connection.ping(() => process.exit(0)) } })
  }
}

function server () {
  const listener = net.createServer((socket) => {
    const connection = speak(socket, true)
    socket.on('error', () => {})
    connection.on('error', () => {})
    connection.on('stream', (stream) => {
      stream.on('error', () => {})
      stream.respond(200, { 'x-stream': stream.headers.name || '' })
      stream.pipe(stream)
    })
  })
  listener.listen(0, '127.0.0.1', () => console.log(listener.address().port))
}

if (process.argv[2] === 'client') { client(Number(process.argv[3])) } else { server() }
